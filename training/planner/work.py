"""Floating-point operations of a stage: two for each weight a token meets, and attention."""

from collections.abc import Mapping
from typing import Any

from transformers import Qwen2_5_VLConfig

from training.config import Part, Stage
from training.planner.memory import Counts, GroupShape, trained_parts

ORDER: tuple[Part, ...] = ("vision", "projector", "language", "head")


def flops_of_group(
    stage: Stage, config: Qwen2_5_VLConfig, counts: Counts, adapters: int, shape: GroupShape
) -> float:
    """Forward and backward of one group; adapters are small, trained products of their own."""
    products, attention = products_of(config, counts, shape), attention_of(config, shape)
    beside = (6 + 2 * stage.checkpointing) * adapters * shape.tokens
    return with_backward(stage, products) + attention_with_backward(stage, attention) + beside


def with_backward(stage: Stage, products: Mapping[Part, float]) -> float:
    """A gradient to the weights costs the forward once more, one to the inputs another time."""
    moving = trained_parts(stage) - ({"language"} if stage.lora else set())
    return sum(
        flops * (_forwards(stage, part) + _passes_gradients(stage, part) + (part in moving))
        for part, flops in products.items()
    )


def attention_with_backward(stage: Stage, attention: Mapping[Part, float]) -> float:
    """Attention has no weights; both its inputs get a gradient."""
    return sum(
        flops * (_forwards(stage, part) + 2 * _passes_gradients(stage, part))
        for part, flops in attention.items()
    )


def _forwards(stage: Stage, part: Part) -> int:
    return 2 if stage.checkpointing and part == "language" else 1


def _passes_gradients(stage: Stage, part: Part) -> bool:
    """Where the part or one before it trains; inside a part every layer passes on."""
    return bool(trained_parts(stage) & set(ORDER[: ORDER.index(part) + 1]))


def products_of(config: Qwen2_5_VLConfig, counts: Counts, shape: GroupShape) -> dict[Part, float]:
    """Matrix products with weights, forward; word embeddings are looked up, not multiplied."""
    vision: Any = config.vision_config
    text: Any = config.get_text_config()
    embedding = text.vocab_size * text.hidden_size
    return {
        "vision": 2 * counts["vision"] * shape.patches,
        "projector": 2 * counts["projector"] * shape.patches / vision.spatial_merge_size**2,
        "language": 2 * (counts["language"] - embedding) * shape.tokens,
        "head": 2 * counts["head"] * shape.answers,
    }


def attention_of(config: Qwen2_5_VLConfig, shape: GroupShape) -> dict[Part, float]:
    """Queries with keys and weights with values, forward.

    A token sees half of its group, a patch its window, and all patches in the full layers.
    """
    vision: Any = config.vision_config
    text: Any = config.get_text_config()
    window = (vision.window_size // vision.patch_size) ** 2
    full = len(vision.fullatt_block_indexes)
    seen = (vision.depth - full) * window + full * shape.patches
    return {
        "vision": 4 * vision.hidden_size * seen * shape.patches,
        "language": 4 * text.num_hidden_layers * text.hidden_size * shape.tokens**2 / 2,
    }
