"""Low-rank adapters on the decoder's linear layers (Hu et al. 2021, arXiv 2106.09685).

A stage trains y = W x + (alpha / rank) B A x with W frozen; at its end B A is added to W, so what
is written is an ordinary checkpoint.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rm_core.model import RewardModel
from training.config import LoraSpec

ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MARK = ".lora_"


class LoraLinear(nn.Module):
    """A frozen linear layer and its adapter; B starts at zero, so nothing changes at first."""

    def __init__(self, inner: nn.Linear, spec: LoraSpec, generator: torch.Generator) -> None:
        super().__init__()
        self.inner = inner
        self.scale = spec.alpha / spec.rank
        weight = inner.weight
        self.lora_a = nn.Parameter(weight.new_empty(spec.rank, inner.in_features))
        self.lora_b = nn.Parameter(weight.new_zeros(inner.out_features, spec.rank))
        if not weight.is_meta:
            drawn = torch.randn(self.lora_a.shape, generator=generator) / math.sqrt(
                inner.in_features
            )
            self.lora_a.data.copy_(drawn)

    def forward(self, x: Tensor) -> Tensor:
        wide: Tensor = self.inner(x)
        return wide + self.scale * ((x @ self.lora_a.T) @ self.lora_b.T)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        self.inner.weight += self.scale * (self.lora_b @ self.lora_a)
        return self.inner


def attach(model: RewardModel, spec: LoraSpec, seed: int) -> None:
    """Put an adapter on every linear layer of the decoder."""
    generator = torch.Generator().manual_seed(seed)
    for block, name, layer in list(_layers(model)):
        assert isinstance(layer, nn.Linear), name
        setattr(block, name, LoraLinear(layer, spec, generator))


def merge(model: RewardModel) -> None:
    """Add every adapter to its layer and leave plain layers behind."""
    for block, name, layer in list(_layers(model)):
        if isinstance(layer, LoraLinear):
            setattr(block, name, layer.merged())


def _layers(model: RewardModel) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for decoder_layer in model.backbone.language_model.layers:
        for block in (decoder_layer.self_attn, decoder_layer.mlp):
            for name, layer in block.named_children():
                if name in ADAPTED:
                    yield block, name, layer
