"""Vision warm-up: every quarter of a picture learns to show the words that are true of it."""

import math
from collections.abc import Mapping
from random import Random

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rm_core.images import encode_image
from rm_core.model import RewardModel
from rm_core.types import Image
from training.base.labels import UNKNOWN, draw_labelled
from training.base.words import FAMILIES, WORDS
from training.runlog import RunLog

SHARPNESS = 8.0  # a token that holds a word's whole row beats an absent word by this many nats
WEIGHTS: Mapping[str, float] = {
    "thing": 1.0, "colour": 0.5, "row": 0.3, "column": 0.3, "count": 0.4, "shape": 0.5,
    "written": 0.7, "shortest": 0.5,
}  # fmt: skip


class PicturePool:
    """Recent pictures; each batch renews some, so one drawing is looked at a few times."""

    def __init__(self, rng: Random, size: int, grid_patches: int = 16) -> None:
        self._rng, self._size, self._drawn = rng, size, 0
        self._patches = torch.zeros(size, grid_patches, 3 * 2 * 14 * 14, dtype=torch.uint8)
        self._labels = torch.zeros(size, 4, len(FAMILIES), dtype=torch.int64)

    def renew(self, count: int, model: RewardModel) -> None:
        for _ in range(count):
            pixels, labels = draw_labelled(self._rng)
            place = self._drawn % self._size
            encoded = encode_image(Image(pixels, ""), model.rules)
            self._patches[place] = torch.from_numpy(encoded.patches)
            self._labels[place] = torch.from_numpy(labels)
            self._drawn += 1

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """(patches of `count` pictures in a row, labels (count, 4, families))."""
        held = min(self._drawn, self._size)
        places = torch.tensor(self._rng.choices(range(held), k=count))
        return self._patches[places].flatten(0, 1), self._labels[places]


class Labels(nn.Module):
    """How well picture tokens show each family's words, under the words' fixed rows."""

    def __init__(self, rows_WD: Tensor) -> None:
        super().__init__()
        self.rows_WD = rows_WD
        width = rows_WD.shape[1]
        self.turn_DD = nn.Parameter(torch.linalg.qr(torch.randn(width, width)).Q)

    def forward(self, tokens_QD: Tensor, labels_QF: Tensor) -> dict[str, tuple[Tensor, float]]:
        """family -> (loss, accuracy), over the tokens whose label of that family is known."""
        found = {}
        for number, (family, words) in enumerate(FAMILIES.items()):
            known_Q = labels_QF[:, number] != UNKNOWN
            if not known_Q.any():
                continue
            tokens, classes = tokens_QD[known_Q], labels_QF[known_Q, number]
            if family == "shortest":
                tokens = tokens @ self.turn_DD
            rows = self.rows_WD[[WORDS.index(word) for word in words]]
            logits = SHARPNESS * tokens @ rows.T
            right = (logits.argmax(-1) == classes).float().mean().item()
            found[family] = (cross_entropy(logits, classes), right)
        return found


def warm_up(
    model: RewardModel,
    rows_WD: Tensor,
    rng: Random,
    log: RunLog,
    *,
    steps: int,
    batch: int = 64,
    renewed: int = 24,
    learning_rate: float = 1.5e-3,
) -> None:
    """Train the tower alone, for `steps` steps of `batch` pictures."""
    tower, labels = model.backbone.visual, Labels(rows_WD)
    trained = [*tower.parameters(), *labels.parameters()]
    optimizer = torch.optim.AdamW(decaying(trained, 0.05), lr=learning_rate, betas=(0.9, 0.98))
    pool = PicturePool(rng, size=8192)
    pool.renew(8 * batch, model)
    grid_thw = torch.tensor([[1, 4, 4]]).repeat(batch, 1)
    for step in range(steps):
        pool.renew(renewed, model)
        patches, labels_BQF = pool.sample(batch)
        tokens_QD = model.image_features(patches, grid_thw)
        found = labels(tokens_QD, labels_BQF.flatten(0, 1))
        set_rate(optimizer, cosine(step, steps, learning_rate))
        descend(optimizer, torch.stack([WEIGHTS[f] * loss for f, (loss, _) in found.items()]).sum())
        if (step + 1) % 100 == 0 or step + 1 == steps:
            right = {family: round(accuracy, 3) for family, (_, accuracy) in found.items()}
            log.event("vision_warm_up", step=step + 1, steps=steps, **right)
            log.progress(f"vision warm-up {step + 1}/{steps}  {right}")


def decaying(parameters: list[nn.Parameter], decay: float) -> list[dict[str, object]]:
    """Matrices decay; norms and biases do not."""
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def cosine(step: int, steps: int, peak: float, warmup: int = 150) -> float:
    """Up in a line, down to a fiftieth in half a cosine."""
    rise = min(1.0, (step + 1) / min(warmup, max(1, steps // 4)))
    return peak * rise * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, 1.0, error_if_nonfinite=True)
    optimizer.step()
