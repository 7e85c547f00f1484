"""The packaged 7B recipe says what the paper says, and runs, made small."""

from pathlib import Path

import pytest

from rm_core.scorer import Scorer
from tests.checkpoints import byte_tokenizer, write_random_checkpoint
from tests.training.conftest import preference
from training import cli
from training.config import FromCheckpoint
from training.data import folder as pairs
from training.planner import Assumed, Card, make_plan
from training.planner.plan import DoesNotFit
from training.recipe import read

NAME, ADAPTED = "skywork-vl-reward-7b.yaml", "skywork-vl-reward-7b-lora.yaml"


def test_its_stages_are_the_papers() -> None:
    recipe = read(NAME)
    assert isinstance(recipe.base, FromCheckpoint)
    assert recipe.base.source == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert [stage.learning_rate for stage in recipe.stages] == [1e-5, 1e-6]
    assert [stage.epochs for stage in recipe.stages] == [2, 2]
    assert [stage.frozen for stage in recipe.stages] == [("vision",)] * 2
    assert [stage.loss.kind for stage in recipe.stages] == ["bradley_terry"] * 2


def test_it_needs_more_than_80_gib_and_fits_139() -> None:
    typical = Assumed(rows=133_000, tokens=2000, patches=3008)
    plans = {gib: make_plan(read(NAME), Card(gib, 67.0, 0.4), typical) for gib in (80, 139)}
    with pytest.raises(DoesNotFit, match=r"108\.4 GiB while head, language, projector train"):
        plans[80].require_fit()
    plans[139].require_fit()


def test_with_adapters_it_fits_80_gib() -> None:
    typical = Assumed(rows=133_000, tokens=2000, patches=3008)
    made = make_plan(read(ADAPTED), Card(80, 67.0, 0.4), typical)
    made.require_fit()
    # 64 * (in + out) for each of seven layers, 28 times.
    per_layer = 2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18_944)
    moving = 44_574_464 + 3585 + 28 * 64 * per_layer
    assert made.stages[0].memory.gradients == 4 * moving


@pytest.mark.parametrize("name", [NAME, ADAPTED])
def test_it_runs_on_a_small_base_and_small_folders(name: str, tmp_path: Path) -> None:
    base = write_random_checkpoint(tmp_path / "base", tokenizer=byte_tokenizer())
    (base / "value_head.safetensors").unlink()
    pairs.write(tmp_path / "images", [preference(n, images=1) for n in range(6)])
    pairs.write(tmp_path / "text", [preference(n, images=0) for n in range(6)])
    first, second = "stages.image-pairs", "stages.image-and-text"
    changes = [
        f"base.source={base}",
        "base.max_pixels=3136",
        "device=cpu",
        "workers=0",
        f"{first}.data.0.source={tmp_path}/images",
        f"{second}.data.0.source={tmp_path}/images",
        f"{second}.data.1.source={tmp_path}/text",
        f"evaluation.source={tmp_path}/images",
        f"{first}.batch=3",
        f"{second}.batch=4",
        "output.golden_rows=2",
    ]
    assert cli.train([name, "--output", str(tmp_path / "out"), *changes]) == 0
    made = Scorer.load(tmp_path / "out" / "model", device="cpu", dtype="float32")
    assert (made.info.head, made.info.max_pixels) == ("linear+bias", 3136)
    assert made.self_check().passed
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert ("adapters of rank 64" in card) == (name == ADAPTED)
    steps = [f"{n}-{stage}" for n, stage in ((1, "image-pairs"), (2, "image-and-text"))]
    assert sorted(p.name for p in (tmp_path / "out" / "stages").iterdir()) == steps
