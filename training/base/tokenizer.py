"""The stand-in base's own small byte-level BPE, with Qwen's control tokens.

It is trained on what the tasks say, so every word they use is one token; any other text still
encodes, byte by byte if need be.
"""

from collections.abc import Iterator
from random import Random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from rm_core.chat import DEFAULT_SYSTEM
from rm_core.types import TextPart
from training.data.tasks import TASKS, draw

CONTROL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
# Words and numbers with the space before them, and every line break alone: the scored token is one.
SPLIT = r" ?\p{L}+| ?\p{N}+|\n| ?[^\s\p{L}\p{N}]+|\s"
ROWS_PER_TASK = 600


def make_tokenizer(seed: int, vocabulary: int = 1024) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(Random(f"tokenizer/{seed}")), trainer)
    return tokenizer


def _texts(rng: Random) -> Iterator[str]:
    yield from [f"system\n{DEFAULT_SYSTEM}", "user\n", "assistant\n"] * ROWS_PER_TASK
    for task in TASKS:
        for _ in range(ROWS_PER_TASK):
            row = draw(rng, task)
            yield from (
                part.text for part in row.conversation.turns[-1].parts if isinstance(part, TextPart)
            )
            yield from (row.chosen, *row.rejected)
