"""Whole runs through the command line: refusals before compute, stages, export, doing it again."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rm_core import heads
from rm_core.scorer import Scorer
from tests.checkpoints import byte_tokenizer, write_random_checkpoint
from tests.training.conftest import preference
from training import cli, jobs, run
from training.data import folder as pairs
from training.recipe import read
from training.runlog import RunLog

ROWS = 12


@pytest.fixture
def data(tmp_path: Path) -> Path:
    pairs.write(tmp_path / "data", [preference(n, images=n % 2) for n in range(ROWS)])
    return tmp_path / "data"


@pytest.fixture
def write_recipe(tmp_path: Path, base: Path, data: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        stage = {"data": [{"source": str(data)}], "learning_rate": 3e-3, "batch": 4, "epochs": 1}
        recipe = {
            "name": "whole",
            "base": {"kind": "checkpoint", "source": str(base)},
            "stages": [
                {"name": "first", **stage},
                {"name": "second", **stage, "frozen": ["vision", "projector"]},
            ],
            "evaluation": {"source": str(data)},
            "output": {"golden_rows": 3},
            **changes,
        }
        path = tmp_path / "whole.yaml"
        path.write_text(yaml.safe_dump(recipe))
        return path

    return write


def test_a_run_ends_in_a_checkpoint_that_scores_as_it_was_examined(
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    assert cli.train([str(write_recipe()), "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output / "model")
    scorer = Scorer.load(output / "model", device="cpu", dtype="float32")
    assert (scorer.self_check().rows, scorer.self_check().passed) == (3, True)
    assert scorer.calibration is not None
    report = json.loads((output / "report.json").read_text())
    assert cli.evaluate(["--data", str(data), "--model", str(output / "model"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report["accuracy"]
    manifest = json.loads((output / "model" / "vlrm.json").read_text())
    assert manifest["lineage"]["recipe"]["stages"][1]["name"] == "second"
    assert "## Limits" in (output / "model" / "README.md").read_text()


@pytest.mark.parametrize("extra", [[], ["stages.0.lora={rank: 4}", "stages.1.lora.rank=2"]])
def test_one_stage_at_a_time_makes_the_same_weights(
    write_recipe: Callable[..., Path], tmp_path: Path, extra: list[str]
) -> None:
    recipe = [str(write_recipe()), *extra]
    assert cli.train([*recipe, "--output", str(tmp_path / "all")]) == 0
    for stage in ("1", "2"):
        assert cli.train([*recipe, "--output", str(tmp_path / "steps"), "--stage", stage]) == 0
    weights = [tmp_path / way / "model" / "model.safetensors" for way in ("all", "steps")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("kind", heads.KINDS)
def test_a_base_without_a_head_trains_the_one_its_recipe_names(
    write_recipe: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    headless = write_random_checkpoint(tmp_path / "headless", tokenizer=byte_tokenizer())
    (headless / "value_head.safetensors").unlink()
    recipe = str(write_recipe(base={"kind": "checkpoint", "source": str(headless)}))
    output, every = tmp_path / "out", "output.log_every_steps=1"
    assert cli.train([recipe, "--output", str(output), f"base.head={kind}", every]) == 0
    assert Scorer.load(output / "model", device="cpu").info.head == kind
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "train"]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[-1] != losses[0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param(
            ["stages.1.data.0.source=nowhere"], "no preference pairs at nowhere", id="data"
        ),
        pytest.param(["stages.1.data.0.source=builtin/nam"], "unknown built-in source", id="task"),
        pytest.param(["base.source=./nothing"], "nothing", id="base"),
        pytest.param(["base.head=mlp"], "has a reward head already", id="second_head"),
        pytest.param(["base.head=mpl"], "base.checkpoint.head", id="unknown_head"),
        pytest.param(["--stage", "3"], "stages 0 (base) to 2", id="no_such_stage"),
        pytest.param(["--stage", "2"], "not made yet", id="parent_missing"),
        pytest.param(["stages.0.data.0.source=builtin"], "give 'steps'", id="endless_epochs"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_computed(
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    output = tmp_path / "out"
    assert cli.train([str(write_recipe()), "--output", str(output), *arguments]) == 1
    assert complaint in capsys.readouterr().err
    assert not list(output.glob("stages/*"))


def test_a_folder_keeps_to_its_recipe_and_to_one_run(
    write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, recipe = tmp_path / "out", str(write_recipe())
    assert cli.train([recipe, "--output", str(output), "--stage", "1"]) == 0
    assert cli.train([recipe, "--output", str(output), "seed=5"]) == 1
    assert "another recipe" in capsys.readouterr().err
    with RunLog(output) as log, run.alone(output):
        assert cli.train([recipe, "--output", str(output)]) == 1
        log.say("held")
    assert "another run is at work" in capsys.readouterr().err


def test_calibrate_stores_what_it_fitted(
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.train([str(write_recipe()), "--output", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    model = tmp_path / "out" / "model"
    assert cli.calibrate(["--model", str(model), "--data", str(data)]) == 0
    fitted = json.loads(capsys.readouterr().out)
    calibration = Scorer.load(model, device="cpu").calibration
    assert calibration is not None
    assert calibration.temperature == fitted["temperature"]


def test_every_row_of_a_folder_is_seen_once_an_epoch(
    write_recipe: Callable[..., Path], tmp_path: Path, base: Path
) -> None:
    recipe = read(write_recipe(), ["stages.0.epochs=2"])
    sources = jobs.open_sources(recipe, recipe.stages[0])
    checkpoint = jobs.open_for_training(base, "cpu")
    job = jobs.make_job(recipe, recipe.stages[0], sources, checkpoint, tmp_path)
    order = [job.data.order.pick(position, [ROWS])[1] for position in range(2 * ROWS)]
    assert sorted(order[:ROWS]) == sorted(order[ROWS:]) == list(range(ROWS))
    assert order[:ROWS] != order[ROWS:]
