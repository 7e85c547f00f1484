"""What a group costs, in text tokens: pictures and attention count by their arithmetic.

A multiplication and an addition are two FLOPs. Norms, activations and softmax are left out: they
move memory, not arithmetic.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from rm_core.encode import EncodedGroup
from rm_core.model import RewardModel

KEYS_PER_TOKEN = 32  # key rows that take about the memory a token's activations take


@dataclass(frozen=True, slots=True)
class CostModel:
    """FLOPs by kind, for one model."""

    token: float  # all matrices of the decoder
    pair: float  # one query against one key, all decoder layers
    patch: float  # all matrices of the tower and the projector, and windowed attention
    patch_pair: float  # one patch against another one of its picture, full-attention layers

    @classmethod
    def of(cls, model: RewardModel) -> "CostModel":
        text = model.backbone.config.get_text_config()
        vision: Any = model.backbone.config.vision_config
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        tower = model.backbone.visual
        full = len(vision.fullatt_block_indexes)
        window = (vision.window_size // vision.patch_size) ** 2
        windowed = 4.0 * vision.hidden_size * (vision.depth - full) * window
        merged = _matrices([tower.merger]) / vision.spatial_merge_size**2
        return cls(
            token=2.0 * _matrices(model.backbone.language_model.layers),
            pair=4.0 * head * text.num_attention_heads * text.num_hidden_layers,
            patch=2.0 * (_matrices([tower.patch_embed, *tower.blocks]) + merged) + windowed,
            patch_pair=4.0 * vision.hidden_size * full,
        )

    def flops(self, group: EncodedGroup) -> float:
        """Of the prompt once, with its pictures, and of every answer."""
        prompt, answers = group.prompt_tokens, group.answer_tokens
        pairs = prompt**2 / 2 + sum(size * (prompt + size / 2) for size in answers)
        patches = [image.num_patches for image in group.images]
        return (
            self.token * group.num_tokens
            + self.pair * pairs
            + self.patch * sum(patches)
            + self.patch_pair * sum(number**2 for number in patches)
        )

    def tokens(self, group: EncodedGroup) -> float:
        """The same as a number of text tokens without attention: the unit of a batch's budget.

        Attention reads the prompt's keys once for every answer. Where answers are so many and so
        short that this takes more memory than their tokens do, that is what counts.
        """
        keys = sum(group.prompt_tokens + size for size in group.answer_tokens)
        return max(self.flops(group) / self.token, keys / KEYS_PER_TOKEN)


def _matrices(modules: Iterable[nn.Module]) -> float:
    return sum(p.numel() for module in modules for p in module.parameters() if p.ndim >= 2)
