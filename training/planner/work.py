"""Floating-point operations of a stage: two for each weight a token meets, and attention."""

from collections.abc import Mapping
from typing import Any

from transformers import Qwen2_5_VLConfig

from training.config import Part, Stage
from training.planner.memory import Counts, GroupShape, trained_parts

ORDER: tuple[Part, ...] = ("vision", "projector", "language", "head")


def flops_of_group(
    stage: Stage, config: Qwen2_5_VLConfig, counts: Counts, shape: GroupShape
) -> float:
    """Forward and backward of one group."""
    products, attention = products_of(config, counts, shape), attention_of(config, shape)
    return with_backward(stage, products) + with_backward(stage, attention)


def with_backward(stage: Stage, forward: Mapping[Part, float]) -> float:
    """A trained part costs its forward once more, one that passes gradients on another time, and
    checkpointing computes the decoder again."""
    trained = trained_parts(stage)
    total = 0.0
    for part, flops in forward.items():
        passes_on = bool(trained & set(ORDER[: ORDER.index(part)]))
        again = stage.checkpointing and part == "language"
        # Inside a trained part every layer passes on to the one before it.
        total += flops * (1 + (part in trained) + (part in trained or passes_on) + again)
    return total


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
