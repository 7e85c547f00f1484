"""Bytes a stage needs on its card, by kind. Everything is float32, as the trainer computes.

Kept for backward by a decoder or tower layer, in numbers per token (h width, k width of keys, i
inner width): two norms with input, scaled input and output, queries, attention output before and
after it is put in place, keys and values, and four inner rows: 9h + 2k + 4i, beside a log-sum for
each head. In groups over 256 tokens every answer has its own copy of the prompt's keys and
values; up to there one mask row a token serves all layers. With checkpointing a layer keeps its
input alone, h, and one layer at a time is computed again. A test holds this to what autograd keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from transformers import Qwen2_5_VLConfig

from rm_core.attention_sdpa import SMALL_GROUP
from training.config import Part, Stage

FLOAT = 4
Counts: TypeAlias = Mapping[Part, int]


@dataclass(frozen=True)
class GroupShape:
    """A typical group: tokens of prompt and answers, of the prompt alone, patches, answers."""

    tokens: float
    prompt: float
    patches: float
    answers: float


@dataclass(frozen=True)
class Memory:
    """Bytes by kind."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def fixed(self) -> int:
        """What no token count changes."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        return self.fixed + self.activations


def trained_parts(stage: Stage) -> set[Part]:
    """Every part that trains at some time of the stage; one that thaws is paid for at its end."""
    every: set[Part] = {"vision", "projector", "language", "head"}
    return every - (set(stage.frozen) - set(stage.unfreeze_after))


def memory_of(
    stage: Stage,
    config: Qwen2_5_VLConfig,
    counts: Counts,
    adapters: int,
    shape: GroupShape,
    tokens: float,
) -> Memory:
    """With `tokens` in one forward; adapters train in the decoder's place."""
    moving = sum(counts[part] for part in trained_parts(stage))
    if stage.lora is not None:
        moving += adapters - counts["language"]
    trained = FLOAT * moving
    return Memory(
        weights=FLOAT * (sum(counts.values()) + adapters),
        gradients=trained,
        optimizer=2 * trained,
        activations=round(activation_bytes(stage, config, shape) * tokens),
    )


def activation_bytes(stage: Stage, config: Qwen2_5_VLConfig, shape: GroupShape) -> float:
    """Per token of a forward; a picture's patches are spread over the tokens of its group."""
    trained = trained_parts(stage)
    below = trained & {"vision", "projector"}
    decoder = _decoder(stage, config, shape) if trained - {"head"} else 0.0
    pictures = shape.patches / shape.tokens
    tower = _tower(config) * pictures if "vision" in trained else 0.0
    merger = _merger(config) * pictures if below else 0.0
    return decoder + tower + merger


def _decoder(stage: Stage, config: Qwen2_5_VLConfig, shape: GroupShape) -> float:
    text: Any = config.get_text_config()
    heads, width = text.num_attention_heads, text.hidden_size
    copies = shape.answers * shape.prompt / shape.tokens if shape.tokens > SMALL_GROUP else 0
    keys = width // heads * text.num_key_value_heads * (1 + copies)
    layer = _layer(width, keys, text.intermediate_size, heads)
    once = 2 * width + min(shape.tokens, SMALL_GROUP)
    if stage.checkpointing:
        return float(FLOAT * (text.num_hidden_layers * width + layer + once))
    return float(FLOAT * (text.num_hidden_layers * layer + once))


def _tower(config: Qwen2_5_VLConfig) -> float:
    vision: Any = config.vision_config
    layer = _layer(
        vision.hidden_size, vision.hidden_size, vision.intermediate_size, vision.num_heads
    )
    return float(FLOAT * vision.depth * layer)


def _merger(config: Qwen2_5_VLConfig) -> float:
    """Per patch: its norm, then two rows of the merged width, four patches each."""
    vision: Any = config.vision_config
    return float(FLOAT * 5 * vision.hidden_size)


def _layer(width: int, keys: float, inner: int, heads: int) -> float:
    return 9 * width + 2 * keys + 4 * inner + heads
