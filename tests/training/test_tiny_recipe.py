"""The embedded model's recipe, cut to minutes: from nothing to looking."""

import json
from pathlib import Path

import pytest

from rm_core.scorer import Scorer
from training import cli

SHORT = (
    "base.vision_steps=120",
    "base.pointing_steps=0",
    "base.speaking_steps=10",
    "base.checking_steps=20",
    "stages.image-pairs.steps=60",
    "stages.image-pairs.learning_rate=2e-3",
    # The first things a tower learns to show; the other tasks take the whole hour.
    "stages.image-pairs.data=[{source: builtin/background}]",
    "stages.image-and-text.steps=20",
    "stages.image-and-text.data=[{source: builtin/background}, {source: builtin/follow}]",
    "evaluation.source=builtin/background",
    "evaluation.rows_per_task=100",
)


@pytest.mark.slow
def test_the_short_recipe_learns_to_look(tmp_path: Path) -> None:
    assert cli.train(["tiny.yaml", "--output", str(tmp_path), *SHORT]) == 0
    report = json.loads((tmp_path / "report.json").read_text())["accuracy"]
    assert report["unseen vendor"]["mean_over_tasks"] > 0.8
    assert report["grey picture"]["mean_over_tasks"] < 0.65  # chance, three pairs a row: +- 0.15
    assert Scorer.load(tmp_path / "model", device="cpu").self_check().passed
