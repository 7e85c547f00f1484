"""A server's answers without a server: the checkpoint is loaded into this process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rm_core.images import decode
from rm_core.types import Conversation, ScoreGroup
from service.schemas import CompareResponse, ModelName, RankResponse, ScoreResponse, Usage
from service.verdicts import compared, ranked, scored

if TYPE_CHECKING:
    from rm_core.calibration import Calibration

# The same bound a server has by default.
MAX_IMAGE_PIXELS = 25_000_000
ID = "offline"


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores and lengths in the caller's order, and what they came from."""

    scores: tuple[float, ...]
    tokens: tuple[int, ...]
    model: ModelName
    usage: Usage
    calibration: "Calibration | None"


@dataclass(frozen=True, slots=True)
class Offline:
    """`model` is a folder, a hub id or None for the embedded one; it is loaded for each call."""

    model: str | None = None
    device: str = "auto"
    dtype: str = "auto"

    def score(
        self, question: str, responses: Sequence[str], *, images: Sequence[Path]
    ) -> ScoreResponse:
        found = self._judged(question, responses, images)
        rows = scored(found.scores, found.tokens, found.calibration)
        return ScoreResponse(id=ID, model=found.model, scores=rows, usage=found.usage)

    def compare(
        self, question: str, response_a: str, response_b: str, *, images: Sequence[Path]
    ) -> CompareResponse:
        found = self._judged(question, (response_a, response_b), images)
        return compared(
            found.scores, found.calibration, answer_id=ID, model=found.model, usage=found.usage
        )

    def rank(
        self, question: str, responses: Sequence[str], *, images: Sequence[Path]
    ) -> RankResponse:
        found = self._judged(question, responses, images)
        ranking = ranked(found.scores, found.calibration)
        return RankResponse(
            id=ID, model=found.model, ranking=ranking, best=ranking[0].index, usage=found.usage
        )

    def _judged(self, question: str, responses: Sequence[str], images: Sequence[Path]) -> Judged:
        pictures = [decode(path.read_bytes(), max_pixels=MAX_IMAGE_PIXELS) for path in images]
        # Each text once and in a fixed order, as the server does: equal answers tie exactly.
        texts = tuple(sorted(set(responses)))
        group = ScoreGroup(Conversation.ask(question, *pictures), texts)
        from rm_core.scorer import Scorer  # imports torch; a bad picture need not wait for it

        scorer = Scorer.load(self.model, device=self.device, dtype=self.dtype)
        encoded = scorer.encode(group)
        score_of = dict(zip(texts, scorer.score_encoded([encoded])[0], strict=True))
        length_of = dict(zip(texts, encoded.answer_tokens, strict=True))
        tokens = tuple(length_of[text] for text in responses)
        return Judged(
            scores=tuple(score_of[text] for text in responses),
            tokens=tokens,
            model=ModelName(name=scorer.info.name, revision=scorer.info.revision),
            usage=Usage(
                prompt_tokens=encoded.prompt_tokens,
                image_tokens=encoded.image_tokens,
                response_tokens=sum(tokens),
                computed_tokens=encoded.num_tokens,
            ),
            calibration=scorer.calibration,
        )
