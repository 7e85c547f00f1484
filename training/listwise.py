"""Plackett-Luce: the likelihood of an order of many answers, chosen from the best down."""

from collections.abc import Sequence

import torch
from torch import Tensor


def plackett_luce(
    chosen_P: Tensor, rejected_P: Tensor, strength_P: Tensor, counts: Sequence[int]
) -> Tensor:
    """Each pair's loss is its group's, so that weights of 1/K give the group's once, (P,)."""
    assert chosen_P.shape == rejected_P.shape == strength_P.shape, (
        chosen_P.shape,
        rejected_P.shape,
        strength_P.shape,
    )
    pieces = zip(
        *(torch.split(values, list(counts)) for values in (chosen_P, rejected_P, strength_P)),
        strict=True,
    )
    losses = [
        _of_group(torch.cat([chosen[:1], rejected]), torch.cat([below.new_zeros(1), below]))
        for chosen, rejected, below in pieces
    ]
    repeats = torch.tensor(counts, device=chosen_P.device)
    return torch.stack(losses).repeat_interleave(repeats)


def _of_group(scores_A: Tensor, below_A: Tensor) -> Tensor:
    """Mean over the answers that beat another: -log their share among themselves and the worse.

    `below` is an answer's distance from the best. All distances distinct: this is the whole
    order's -log likelihood over its K choices. Equal ones are not ordered among themselves; with
    one distance for all rejected answers it is the softmax of the chosen one, and with two
    answers Bradley-Terry.
    """
    worse_AA = below_A[:, None] < below_A[None, :]
    standing_AA = worse_AA | torch.eye(len(below_A), dtype=torch.bool, device=below_A.device)
    fields_AA = scores_A.expand(len(scores_A), -1).masked_fill(~standing_AA, -torch.inf)
    lost_A = torch.logsumexp(fields_AA, dim=1) - scores_A
    return lost_A[worse_AA.any(dim=1)].mean()
