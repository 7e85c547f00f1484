"""The wire contract as types: what a caller may send and what comes back."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, FailFast, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

# Tags that only steer validation begin with "~", so that they can be left out of field paths.


class StopAtFirst(FailFast):
    """On a list: its first wrong item is the error. A million of them would be a million errors."""

    def __hash__(self) -> int:  # annotations of unions are hashed, and pydantic's own cannot be
        return hash(StopAtFirst)


PICTURE = (
    "data:image/png;base64,..., sha256:<hex> of an uploaded picture, or an http(s) URL where the "
    "server is set to fetch those"
)


class Strict(BaseModel):
    """Unknown keys and lookalike types are refused; `true` is not 1 and "3" is not 3."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Address(Strict):
    url: Annotated[str, Field(min_length=1, description=PICTURE)]


class TextContent(Strict):
    type: Literal["text"]
    text: Annotated[str, Field(min_length=1)]


class ImageContent(Strict):
    type: Literal["image_url"]
    image_url: Address


class VideoContent(Strict):
    type: Literal["video_url"]
    video_url: Address


def _part_kind(part: Any) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
    return f"~{kind}" if kind in ("text", "image_url", "video_url") else None


def _content_kind(content: Any) -> str | None:
    return (
        "~string" if isinstance(content, str) else "~parts" if isinstance(content, list) else None
    )


Part = Annotated[
    Annotated[TextContent, Tag("~text")]
    | Annotated[ImageContent, Tag("~image_url")]
    | Annotated[VideoContent, Tag("~video_url")],
    Discriminator(
        _part_kind,
        custom_error_type="part",
        custom_error_message="a part is an object whose type is text, image_url or video_url",
    ),
]
Parts = Annotated[list[Part], Field(min_length=1), StopAtFirst()]
Content = Annotated[
    Annotated[Annotated[str, Field(min_length=1)], Tag("~string")]
    | Annotated[Parts, Tag("~parts")],
    Discriminator(
        _content_kind,
        custom_error_type="content",
        custom_error_message="content is a string or a list of parts",
    ),
]
Answer = Annotated[str, Field(min_length=1)]
Responses = Annotated[list[Answer], Field(min_length=1), StopAtFirst()]


class Message(Strict):
    role: Literal["system", "user", "assistant"]
    content: Content


class Prompt(Strict):
    """A conversation as `messages`, or its short form `prompt` with `images`."""

    messages: Annotated[list[Message], Field(min_length=1), StopAtFirst()] | None = None
    prompt: Annotated[str, Field(min_length=1)] | None = None
    images: Annotated[list[str], Field(description=PICTURE), StopAtFirst()] = []
    videos: Annotated[
        list[str], Field(description="Not supported yet: refused with 422."), StopAtFirst()
    ] = []

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.messages is None) == (self.prompt is None):
            raise PydanticCustomError("form", "send either messages or prompt, and not both")
        if self.messages is not None and (self.images or self.videos):
            raise PydanticCustomError("form", "with messages, pictures go into the messages")
        return self


class ScoreRequest(Prompt):
    """One prompt and its candidates; `response` is short for a list of one."""

    response: Answer | None = None
    responses: Responses | None = None

    @model_validator(mode="after")
    def _some_answer(self) -> Self:
        if (self.response is None) == (self.responses is None):
            raise PydanticCustomError("form", "send either response or responses, and not both")
        return self

    @property
    def answers(self) -> tuple[str, ...]:
        return tuple(self.responses) if self.responses is not None else (self.response or "",)


class RankRequest(Prompt):
    """One prompt and at least two candidates to put in order."""

    responses: Annotated[list[Answer], Field(min_length=2), StopAtFirst()]

    @property
    def answers(self) -> tuple[str, ...]:
        return tuple(self.responses)


class CompareRequest(Prompt):
    """One prompt and two candidates."""

    response_a: Answer
    response_b: Answer

    @property
    def answers(self) -> tuple[str, ...]:
        return (self.response_a, self.response_b)


AnyRequest: TypeAlias = ScoreRequest | CompareRequest | RankRequest


class ModelName(BaseModel):
    name: str
    revision: str


class Usage(BaseModel):
    prompt_tokens: int
    image_tokens: int
    response_tokens: int
    computed_tokens: int = Field(description="What the forward pass really ran.")


class Score(BaseModel):
    index: int
    score: float = Field(description="Raw head output.")
    normalized: float | None = Field(description="(score - mean) / std; null when uncalibrated.")
    tokens: int


class ScoreResponse(BaseModel):
    id: str
    model: ModelName
    scores: list[Score]
    usage: Usage


class CompareResponse(BaseModel):
    id: str
    model: ModelName
    score_a: float
    score_b: float
    margin: float
    probability_a: float
    verdict: Literal["a", "b", "tie"]
    calibrated: bool
    usage: Usage


class Ranked(BaseModel):
    index: int
    score: float
    normalized: float | None
    rank: int


class RankResponse(BaseModel):
    id: str
    model: ModelName
    ranking: list[Ranked]
    best: int
    usage: Usage


class ModelResponse(BaseModel):
    """Everything that identifies the model and how it is run."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    revision: str
    layout: str
    head: str
    dtype: str
    device: str
    attention: str
    score_mode: str
    context_limit: int
    min_pixels: int
    max_pixels: int
    template_digest: str
    num_parameters: int
    calibration: dict[str, Any] | None
    self_check: dict[str, Any] | None
    versions: dict[str, str]
