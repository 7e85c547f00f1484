"""One line of a pairs folder's index, checked as it is read."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rm_core.types import Role
from training.data.records import Group

Strength: TypeAlias = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class PartLine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["text", "image"]
    text: str | None = None
    image: str | None = None


class MessageLine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    role: Role
    content: str | tuple[PartLine, ...]

    @property
    def parts(self) -> tuple[PartLine, ...]:
        if isinstance(self.content, str):
            return (PartLine(type="text", text=self.content),)
        return self.content


class PairLine(BaseModel):
    """One line of the index."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    messages: tuple[MessageLine, ...] = Field(min_length=1)
    chosen: str = Field(min_length=1)
    rejected: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    task: str = "pairs"
    group: Group = "general"
    source: str = ""
    strength: Strength | tuple[Strength, ...] | None = None

    @model_validator(mode="after")
    def is_a_preference(self) -> Self:
        if self.chosen in self.rejected:
            raise ValueError("the chosen answer is among the rejected ones")
        if self.messages[-1].role != "user":
            raise ValueError("the last message before the answer must be the user's")
        if self.strengths and len(self.strengths) != len(self.rejected):
            raise ValueError("give one strength, or one for each rejected answer")
        return self

    @property
    def strengths(self) -> tuple[float, ...]:
        """One for each rejected answer, or none at all."""
        if isinstance(self.strength, float):
            return (self.strength,) * len(self.rejected)
        return self.strength or ()

    @property
    def pictures(self) -> tuple[str, ...]:
        return tuple(p.image for m in self.messages for p in m.parts if p.image is not None)
