"""Fit a checkpoint's calibration on held-out scores, and say how good its probabilities are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rm_core.calibration import Calibration, fit
from training.evaluate import Judged

BINS = 10


@dataclass(frozen=True)
class Quality:
    """Of pair probabilities: expected calibration error, Brier score, negative log likelihood."""

    ece: float
    brier: float
    nll: float


def fit_on(judged: Sequence[Judged]) -> Calibration:
    """Every (chosen, rejected) pair of the rows counts once."""
    pairs = _pairs(judged)
    return fit([chosen for chosen, _ in pairs], [rejected for _, rejected in pairs])


def quality(calibration: Calibration, judged: Sequence[Judged]) -> Quality:
    """How the probabilities it gives compare with what is true (the chosen answer is better)."""
    right = [calibration.probability(c - r) for c, r in _pairs(judged)]
    return Quality(
        ece=_expected_calibration_error(right),
        brier=sum((1 - p) ** 2 for p in right) / len(right),
        nll=sum(-math.log(max(p, 1e-12)) for p in right) / len(right),
    )


def _pairs(judged: Sequence[Judged]) -> list[tuple[float, float]]:
    return [(one.scores[0], rejected) for one in judged for rejected in one.scores[1:]]


def _expected_calibration_error(right: Sequence[float]) -> float:
    """Confidence is the larger of p and 1 - p; a pair is correct when p is above one half."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for p in right:
        confidence = max(p, 1 - p)
        place = min(BINS - 1, int((confidence - 0.5) * 2 * BINS))
        bins[place].append((confidence, p > 0.5))
    gaps = (
        abs(sum(c for c, _ in members) - sum(correct for _, correct in members)) for members in bins
    )
    return sum(gaps) / len(right)
