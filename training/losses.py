"""The losses of a recipe in float32, and the counts behind accuracy.

Axes: N scored answers of a batch, G groups, P (chosen, rejected) pairs. The chosen answer stands
first in its group, so a group of 1 + K answers makes K pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from rm_core.model import RewardModel
from rm_core.packing import PackedBatch
from training.listwise import plackett_luce
from training.loss_kinds import (
    BradleyTerry,
    LabelSmoothing,
    Listwise,
    LossSpec,
    Margin,
    Scaled,
    Ties,
)


@dataclass(frozen=True)
class Pairs:
    """A batch's pairs; those of one group share a weight of one, so long lists do not rule.

    `strength_P` is how far the chosen answer's label is above the rejected one's: 0 for equal
    labels, 1 where the data does not say. `counts` are the pairs of each group.
    """

    chosen_P: Tensor
    rejected_P: Tensor
    weight_P: Tensor
    strength_P: Tensor
    counts: tuple[int, ...]


def pair_up(
    scores_N: Tensor, group_sizes: Sequence[int], strengths: Sequence[float] | None = None
) -> Pairs:
    """Read the scores of a batch as pairs: each group's first answer against each of its others."""
    assert scores_N.ndim == 1, scores_N.shape
    assert scores_N.shape[0] == sum(group_sizes), (scores_N.shape, group_sizes)
    assert min(group_sizes) >= 2, "a group needs a chosen and a rejected answer"
    groups = torch.split(scores_N, list(group_sizes))
    rejected_P = torch.cat([group[1:] for group in groups])
    counts = torch.tensor([size - 1 for size in group_sizes], device=scores_N.device)
    chosen_G = torch.stack([group[0] for group in groups])
    weight_P = (1.0 / counts.double()).to(scores_N.dtype).repeat_interleave(counts)
    strength_P = torch.ones_like(weight_P) if strengths is None else weight_P.new_tensor(strengths)
    assert strength_P.shape == rejected_P.shape, (strength_P.shape, rejected_P.shape)
    return Pairs(
        chosen_G.repeat_interleave(counts), rejected_P, weight_P, strength_P, tuple(counts.tolist())
    )


def loss_of(pairs: Pairs, spec: LossSpec) -> Tensor:
    """What each pair adds to the loss before its weight, (P,), at least in float32.

    The sum of a group's losses under their weights is the group's loss.
    """
    loss_P = _by_kind(pairs, spec)
    assert loss_P.shape == pairs.chosen_P.shape, (loss_P.shape, pairs.chosen_P.shape)
    if spec.centering:
        both_P = _widen(pairs.chosen_P) + _widen(pairs.rejected_P)
        loss_P = loss_P + spec.centering * both_P.square()
    return loss_P


def _by_kind(pairs: Pairs, spec: LossSpec) -> Tensor:
    chosen_P, rejected_P = pairs.chosen_P, pairs.rejected_P
    match spec:
        case BradleyTerry():
            return bradley_terry(chosen_P, rejected_P)
        case Margin():
            return bradley_terry(chosen_P, rejected_P, spec.margin * pairs.strength_P)
        case Scaled():
            return pairs.strength_P * bradley_terry(chosen_P, rejected_P)
        case LabelSmoothing():
            right_P = bradley_terry(chosen_P, rejected_P)
            wrong_P = bradley_terry(rejected_P, chosen_P)
            return (1 - spec.smoothing) * right_P + spec.smoothing * wrong_P
        case Ties():
            return rao_kupper(chosen_P, rejected_P, pairs.strength_P == 0, spec.threshold)
        case Listwise():
            return plackett_luce(
                _widen(chosen_P), _widen(rejected_P), pairs.strength_P, pairs.counts
            )
    raise AssertionError(f"no formula for {spec!r}")


def bradley_terry(chosen_P: Tensor, rejected_P: Tensor, margin_P: Tensor | None = None) -> Tensor:
    """-log sigmoid(chosen - rejected - margin) per pair, at least in float32.

    bf16 rewards of 12 are 0.0625 apart: a difference taken in bf16 would often be exactly 0.
    """
    assert chosen_P.shape == rejected_P.shape, (chosen_P.shape, rejected_P.shape)
    assert chosen_P.ndim == 1, chosen_P.shape  # [P, 1] against [P] would broadcast to [P, P]
    behind_P = _widen(rejected_P) - _widen(chosen_P)
    if margin_P is not None:
        assert margin_P.shape == chosen_P.shape, (margin_P.shape, chosen_P.shape)
        behind_P = behind_P + _widen(margin_P)
    return softplus(behind_P)


def rao_kupper(chosen_P: Tensor, rejected_P: Tensor, tied_P: Tensor, threshold: float) -> Tensor:
    """Bradley-Terry with ties; a tie's probability is what both orders leave.

    With d the difference and t the threshold (their log theta): P(chosen) = sigmoid(d - t) and
    P(tie) = (e^2t - 1) sigmoid(d - t) sigmoid(-d - t). Rao and Kupper 1967 (JASA 62, 194-204);
    for reward models Liu, Ge and Zhu 2024 (arXiv 2410.05328).
    """
    margin_P = torch.full_like(_widen(chosen_P), threshold)
    won_P = bradley_terry(chosen_P, rejected_P, margin_P)
    lost_P = bradley_terry(rejected_P, chosen_P, margin_P)
    room = torch.expm1(2 * margin_P).log()
    assert tied_P.shape == won_P.shape, (tied_P.shape, won_P.shape)
    return won_P + torch.where(tied_P, lost_P - room, 0.0)


def wins(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
    """1 for a pair told right, 0 for one told wrong, and a half for a tie."""
    difference_P = _widen(chosen_P) - _widen(rejected_P)
    return (torch.sign(difference_P) + 1.0) / 2.0


def next_token(model: RewardModel, hidden_TD: Tensor, batch: PackedBatch) -> Tensor:
    """Mean cross-entropy of the chosen answers' tokens under the tied word embeddings.

    An auxiliary that keeps a small model's language alive while it learns to compare.
    """
    targets, predictors = [], []
    for span in batch.spans:
        first = span.start + span.prefix
        targets.append(torch.arange(first, first + span.answers[0]))
        predictors.append(targets[-1] - 1)
    target_L = batch.input_ids_T[torch.cat(targets)]
    embedding = model.backbone.language_model.embed_tokens.weight
    logits_LV = hidden_TD[torch.cat(predictors)] @ embedding.T
    return cross_entropy(_widen(logits_LV), target_L)


def _widen(scores: Tensor) -> Tensor:
    return scores if scores.dtype == torch.float64 else scores.float()
