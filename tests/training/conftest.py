"""A real Qwen2.5-VL made tiny, with random weights and a byte-level tokenizer."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import Qwen2_5_VLConfig

from rm_core.encode import Encoder
from rm_core.images import PixelRules
from rm_core.model import RewardModel
from rm_core.types import Conversation, Image
from training.data.records import Preference

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
RULES = PixelRules(min_pixels=56 * 56, max_pixels=112 * 112)


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    return Encoder(tokenizer, RULES)


@pytest.fixture
def make_model(encoder: Encoder) -> Callable[[int], RewardModel]:
    """A seed -> a random model; the head is drawn wide so that scores differ."""

    def make(seed: int) -> RewardModel:
        torch.manual_seed(seed)
        model = RewardModel(tiny_config(encoder), RULES)
        torch.nn.init.normal_(model.head.weight, std=0.3)
        return model.eval()

    return make


def tiny_config(encoder: Encoder) -> Qwen2_5_VLConfig:
    ids = {name: 256 + number for number, name in enumerate(SPECIAL)}
    assert encoder.tokenizer.token_to_id("<|im_end|>") == ids["<|im_end|>"]
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 272, "bos_token_id": None, "eos_token_id": None,
            "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]
            },
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2,
            "out_hidden_size": 32, "window_size": 56, "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip


def picture(seed: int, height: int = 56, width: int = 56) -> Image:
    rng = np.random.default_rng(seed)
    return Image.from_pixels(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def preference(number: int, *rejected: str, images: int = 1, chosen: str = "yes") -> Preference:
    pictures = [picture(10 * number + i) for i in range(images)]
    return Preference(
        id=f"row-{number}",
        conversation=Conversation.ask(f"question {number}?", *pictures),
        chosen=chosen,
        rejected=rejected or ("no",),
        task="yes-or-no",
        group="general",
        source="test",
    )
