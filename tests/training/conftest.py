"""A real Qwen2.5-VL made tiny, with random weights, and rows to train it on."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rm_core.checkpoints import save
from rm_core.encode import Encoder
from rm_core.model import RewardModel
from rm_core.types import Conversation, Image
from tests.checkpoints import RULES, byte_tokenizer, small_config
from training import state, trainer
from training.config import Output, Stage
from training.data.dataset import Order, StageData
from training.data.records import Preference
from training.runlog import RunLog


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


STEPS, BATCH = 6, 4


class Numbered:
    """Rows 0, 1, 2, ...; every third is text only, every fourth has two wrong answers."""

    size = None

    def row(self, index: int) -> Preference:
        wrong = ("no", "never ever") if index % 4 == 0 else ("no",)
        return preference(index, *wrong, images=index % 3)


@pytest.fixture
def make_job(encoder: Encoder, tmp_path: Path) -> Callable[..., trainer.Job]:
    def make(**changes: Any) -> trainer.Job:
        settings = {"frozen": [], "learning_rate": 3e-3, "weight_decay": 0.01, **changes}
        stage = Stage.model_validate(
            {"name": "s", "data": [{"source": "-"}], "steps": STEPS, "batch": BATCH, **settings}
        )
        data = StageData(
            (Numbered(),), Order.draw([1.0], STEPS * BATCH, 0), encoder, BATCH, stage.max_tokens
        )
        output, folder = Output(log_every_steps=2), tmp_path / "state"
        return trainer.Job(stage, STEPS, data, 0, output, "recipe", folder, 2, lambda _: {})

    return make


def run(
    job: trainer.Job, model: RewardModel, stop: state.StopRequest | None = None
) -> dict[str, Tensor]:
    with RunLog(job.folder, io.StringIO()) as log:
        trainer.run(job, model, log, stop or state.StopRequest())
    return {name: value.clone() for name, value in model.state_dict().items()}
