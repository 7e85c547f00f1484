"""A real Qwen2.5-VL made tiny, with random weights, and rows to train it on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rm_core.checkpoints import save
from rm_core.encode import Encoder
from rm_core.model import RewardModel
from rm_core.types import Conversation, Image
from tests.checkpoints import RULES, byte_tokenizer, small_config
from training.data.records import Preference


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder(byte_tokenizer(), RULES)


@pytest.fixture
def make_model(encoder: Encoder) -> Callable[[int], RewardModel]:
    """A seed -> a random model; the head is drawn wide so that scores differ."""

    def make(seed: int) -> RewardModel:
        torch.manual_seed(seed)
        model = RewardModel(small_config(encoder.tokenizer), RULES)
        for weight in (p for p in model.head.parameters() if p.ndim > 1):
            torch.nn.init.normal_(weight, std=0.2)
        return model.eval()

    return make


@pytest.fixture
def base(make_model: Callable[[int], RewardModel], encoder: Encoder, tmp_path: Path) -> Path:
    """An untrained checkpoint folder."""
    save(tmp_path / "base", make_model(0), encoder, name="base", dtype=torch.float32)
    return tmp_path / "base"


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
