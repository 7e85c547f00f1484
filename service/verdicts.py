"""Raw scores -> what the contract says about them; the routes and the command line share it."""

from collections.abc import Sequence

from rm_core.calibration import UNCALIBRATED, Calibration
from service.schemas import CompareResponse, ModelName, Ranked, Score, Usage


def scored(
    scores: Sequence[float], tokens: Sequence[int], calibration: Calibration | None
) -> list[Score]:
    return [
        Score(index=i, score=raw, normalized=normalized(raw, calibration), tokens=length)
        for i, (raw, length) in enumerate(zip(scores, tokens, strict=True))
    ]


def ranked(scores: Sequence[float], calibration: Calibration | None) -> list[Ranked]:
    """Best first; rank is one more than the number of strictly better answers."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    best_first = [scores[i] for i in order]
    return [
        Ranked(
            index=i,
            score=raw,
            normalized=normalized(raw, calibration),
            rank=best_first.index(raw) + 1,
        )
        for i, raw in zip(order, best_first, strict=True)
    ]


def compared(
    scores: Sequence[float],
    calibration: Calibration | None,
    *,
    answer_id: str,
    model: ModelName,
    usage: Usage,
) -> CompareResponse:
    score_a, score_b = scores
    margin, known = score_a - score_b, calibration or UNCALIBRATED
    return CompareResponse(
        id=answer_id,
        model=model,
        score_a=score_a,
        score_b=score_b,
        margin=margin,
        probability_a=known.probability(margin),
        verdict=known.verdict(margin),
        calibrated=calibration is not None,
        usage=usage,
    )


def normalized(score: float, calibration: Calibration | None) -> float | None:
    return calibration.normalize(score) if calibration else None
