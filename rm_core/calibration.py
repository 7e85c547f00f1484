"""Raw reward -> normalized score, pair probability and verdict; fitted on held-out pairs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

Verdict: TypeAlias = Literal["a", "b", "tie"]
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
# A pair the model itself gives less than 55 : 45 is called a tie.
TIE_PROBABILITY = 0.55
TEMPERATURES = np.geomspace(1e-2, 1e2, 401)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns this checkpoint's raw scores into numbers people compare across checkpoints."""

    mean: float = 0.0
    std: float = 1.0
    temperature: float = 1.0
    tie_band: float = 0.0
    quantiles: tuple[float, ...] = ()

    def normalize(self, score: float) -> float:
        """(score - mean) / std over held-out answers, good and bad together."""
        return (score - self.mean) / self.std

    def probability(self, margin: float) -> float:
        """Chance that the first answer is the better one: sigmoid(margin / temperature)."""
        scaled = margin / self.temperature
        if scaled >= 0:
            return 1 / (1 + math.exp(-scaled))
        grown = math.exp(scaled)
        return grown / (1 + grown)

    def verdict(self, margin: float) -> Verdict:
        """`tie` inside the tie band, its edges included."""
        if abs(margin) <= self.tie_band:
            return "tie"
        return "a" if margin > 0 else "b"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Calibration":
        return cls(**{**data, "quantiles": tuple(data.get("quantiles", ()))})


UNCALIBRATED = Calibration()


def fit(chosen_P: Sequence[float], rejected_P: Sequence[float]) -> Calibration:
    """Fit on P held-out pairs that training never saw."""
    chosen, rejected = np.asarray(chosen_P, np.float64), np.asarray(rejected_P, np.float64)
    scores = np.concatenate([chosen, rejected])
    temperature = _temperature(chosen - rejected)
    odds = math.log(TIE_PROBABILITY / (1 - TIE_PROBABILITY))
    return Calibration(
        mean=float(scores.mean()),
        std=float(scores.std()),
        temperature=temperature,
        tie_band=temperature * odds,
        quantiles=tuple(float(q) for q in np.quantile(scores, QUANTILES)),
    )


def _temperature(margins_P: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """The temperature of least negative log likelihood, to about 2 %."""
    losses = np.logaddexp(0, -margins_P[None, :] / TEMPERATURES[:, None]).mean(axis=1)
    return float(TEMPERATURES[losses.argmin()])
