"""Golden rows: a checkpoint's own exam, taken before it serves and after every move."""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rm_core.images import decode
from rm_core.types import Conversation, ScoreGroup

FILE = "golden.json"
MAX_PIXELS = 4_000_000


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """One question with PNG pictures, its answers and the scores they must get."""

    question: str
    pictures: tuple[bytes, ...]
    responses: tuple[str, ...]
    scores: tuple[float, ...]

    def group(self) -> ScoreGroup:
        images = [decode(data, max_pixels=MAX_PIXELS) for data in self.pictures]
        return ScoreGroup(Conversation.ask(self.question, *images), self.responses)


@dataclass(frozen=True, slots=True)
class Golden:
    """Rows with scores computed in float32, and how far each dtype may stray from them."""

    rows: tuple[GoldenRow, ...]
    tolerance: dict[str, float]

    def write(self, folder: Path) -> None:
        rows = [
            {
                "question": row.question,
                "pictures": [base64.b64encode(data).decode() for data in row.pictures],
                "responses": row.responses,
                "scores": row.scores,
            }
            for row in self.rows
        ]
        text = json.dumps({"tolerance": self.tolerance, "rows": rows}, indent=1)
        (folder / FILE).write_text(text + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Golden | None":
        """None when the checkpoint brings no exam (the released one does not)."""
        if not (folder / FILE).exists():
            return None
        data = json.loads((folder / FILE).read_text())
        return cls(tuple(_row(row) for row in data["rows"]), dict(data["tolerance"]))


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """The outcome of the exam; no rows is a pass with nothing shown."""

    rows: int
    max_difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.max_difference <= self.tolerance


def compare(golden: Golden, scores: Sequence[Sequence[float]], dtype: str) -> SelfCheck:
    """Largest |score - golden score| over all answers, against the dtype's tolerance."""
    differences = [
        abs(mine - theirs)
        for row, given in zip(golden.rows, scores, strict=True)
        for mine, theirs in zip(given, row.scores, strict=True)
    ]
    # max() of a list with NaN depends on the order; a model that gives NaN must not pass.
    worst = max(differences) if all(map(math.isfinite, differences)) else math.inf
    return SelfCheck(len(golden.rows), worst, golden.tolerance[dtype])


def _row(data: dict[str, list[str]]) -> GoldenRow:
    return GoldenRow(
        question=str(data["question"]),
        pictures=tuple(base64.b64decode(picture) for picture in data["pictures"]),
        responses=tuple(data["responses"]),
        scores=tuple(float(score) for score in data["scores"]),
    )
