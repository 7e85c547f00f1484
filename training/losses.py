"""Pairwise losses in float32, and the counts behind accuracy.

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


@dataclass(frozen=True)
class Pairs:
    """A batch's pairs; those of one group share a weight of one, so long lists do not rule."""

    chosen_P: Tensor
    rejected_P: Tensor
    weight_P: Tensor


def pair_up(scores_N: Tensor, group_sizes: Sequence[int]) -> Pairs:
    """Read the scores of a batch as pairs: each group's first answer against each of its others."""
    assert scores_N.ndim == 1, scores_N.shape
    assert scores_N.shape[0] == sum(group_sizes), (scores_N.shape, group_sizes)
    assert min(group_sizes) >= 2, "a group needs a chosen and a rejected answer"
    groups = torch.split(scores_N, list(group_sizes))
    rejected = [group[1:] for group in groups]
    counts = torch.tensor([len(r) for r in rejected], device=scores_N.device)
    chosen_G = torch.stack([group[0] for group in groups])
    weight_P = (1.0 / counts).to(scores_N.dtype).repeat_interleave(counts)
    return Pairs(chosen_G.repeat_interleave(counts), torch.cat(rejected), weight_P)


def bradley_terry(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
    """-log sigmoid(chosen - rejected) per pair, at least in float32.

    bf16 rewards of 12 are 0.0625 apart: a difference taken in bf16 would often be exactly 0.
    """
    assert chosen_P.shape == rejected_P.shape, (chosen_P.shape, rejected_P.shape)
    assert chosen_P.ndim == 1, chosen_P.shape  # [P, 1] against [P] would broadcast to [P, P]
    return softplus(_widen(rejected_P) - _widen(chosen_P))


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
