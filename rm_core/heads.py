"""The reward head: what turns an answer's last hidden state into one number, in float32."""

import math
from collections.abc import Collection
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from rm_core.errors import UnknownName

HeadKind: TypeAlias = Literal["linear", "linear+bias", "mlp"]
KINDS: tuple[HeadKind, ...] = get_args(HeadKind)


class MlpHead(nn.Module):
    """Two layers with SiLU between them, the inner one as wide as the decoder."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, width, dtype=torch.float32)
        self.down = nn.Linear(width, 1, dtype=torch.float32)

    def forward(self, hidden_ND: Tensor) -> Tensor:
        scores_N1: Tensor = self.down(silu(self.up(hidden_ND)))
        return scores_N1


def make(kind: str, width: int) -> nn.Module:
    """A head for hidden states of `width`, (N, D) -> (N, 1)."""
    if kind not in KINDS:
        raise UnknownName("head", kind, KINDS)
    if kind == "mlp":
        return MlpHead(width)
    return nn.Linear(width, 1, bias=kind == "linear+bias", dtype=torch.float32)


def kind_of(names: Collection[str]) -> HeadKind:
    """The kind whose parameters have these names; what lacks one is found when they are filled."""
    if any(name.startswith(("head.up.", "head.down.")) for name in names):
        return "mlp"
    return "linear+bias" if "head.bias" in names else "linear"


def start(head: nn.Module) -> None:
    """All answers score 0 at first, so the first pairwise loss is ln 2 whatever the base says.

    The last layer starts at zero. An inner layer is drawn from torch's generator, with the width
    kept: it has to tell answers apart before the last one learns to listen.
    """
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        if isinstance(head, MlpHead):
            head.up.weight.normal_(0.0, 1.0 / math.sqrt(head.up.in_features))
