"""What every source yields and the trainer reads: one prompt, its right answer and wrong ones."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from rm_core.errors import InvalidInput
from rm_core.types import Conversation, ScoreGroup

Group: TypeAlias = Literal["general", "hallucination", "reasoning", "text"]


class BrokenRow(InvalidInput):
    """A row whose content cannot be read; it is named, and the others go on."""

    code = "broken_row"

    def __init__(self, row: str, source: str, message: str) -> None:
        super().__init__(f"row {row}: {message}")
        self.row, self.source, self.reason = row, source, message


@dataclass(frozen=True, slots=True)
class Preference:
    id: str
    conversation: Conversation
    chosen: str
    rejected: tuple[str, ...]
    task: str
    group: Group
    source: str
    # How far the chosen answer's label is above each rejected one's; 0 for equal labels.
    # Empty where the data does not say: then each counts 1.
    strengths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        assert self.rejected, self.id
        assert self.chosen not in self.rejected, (self.id, self.chosen)
        assert len(self.strengths) in (0, len(self.rejected)), (self.id, self.strengths)

    @property
    def tied(self) -> bool:
        """Whether some rejected answer is labelled as good as the chosen one."""
        return 0 in self.strengths

    def as_group(self) -> ScoreGroup:
        """The answers in the order the losses expect: the right one first."""
        return ScoreGroup(self.conversation, (self.chosen, *self.rejected))
