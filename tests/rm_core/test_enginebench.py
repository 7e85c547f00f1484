"""The engine's benchmark measures the same work on both roads, and says so."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rm_core import geometry
from rm_core.enginebench import Plan, run
from rm_core.enginebench.inputs import WORKLOADS, Shape, group, groups
from rm_core.enginebench.run import random_model
from rm_core.enginebench.stock import score_one_by_one
from rm_core.errors import UnknownName
from rm_core.packing import pack

CPU = Plan("small", torch.device("cpu"), torch.float32, pack_tokens=400, seconds=0.01, threads=1)


@pytest.fixture(autouse=True)
def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same kinds of layers and inputs, a hundredth of the work."""
    small = geometry.GEOMETRIES["small"]
    text = {**small["text_config"], "num_hidden_layers": 2}
    vision = {**small["vision_config"], "depth": 2, "fullatt_block_indexes": [1]}
    shape = {"text_config": text, "vision_config": vision}
    monkeypatch.setitem(geometry.GEOMETRIES, "small", shape)
    for name, shapes in list(WORKLOADS.items()):
        few = tuple(
            replace(s, image=min(s.image, 24), question=s.question // 10, answer=s.answer // 10)
            for s in shapes
        )
        monkeypatch.setitem(WORKLOADS, name, few)


def test_the_table_has_every_workload_and_both_roads_agree() -> None:
    heard: list[str] = []
    rows = run(CPU, heard.append).splitlines()
    assert len(heard) == len(WORKLOADS) + 1
    for name in WORKLOADS:
        (row,) = [row for row in rows if row.startswith(f"| {name} |")]
        *rates, difference = (float(cell.replace(",", "")) for cell in row.split("|")[2:-1])
        assert all(rate >= 0 for rate in rates)
        assert difference < 2e-5


def test_our_scores_are_the_stock_modules_scores() -> None:
    model = random_model(CPU)
    made = groups((Shape(24, 10, 12, 3), Shape(0, 20, 9)), 300, model.image_pad_id, seed=1)
    with torch.inference_mode():
        ours = model(pack(made, model.image_pad_id, 2)).tolist()
    stock = score_one_by_one(model, made)
    assert np.std(stock) > 1e-3
    assert ours == pytest.approx(stock, abs=2e-5)


def test_a_group_has_the_lengths_it_was_asked_for() -> None:
    made = group(Shape(1280, 100, 300, 8), 10, np.random.default_rng(0))
    assert (made.prompt_tokens, made.answer_tokens) == (1380, (300,) * 8)
    assert (made.num_patches, made.images[0].num_tokens(2)) == (5120, 1280)
    assert (made.prefix_ids_P == 10).sum() == 1280
    rows, columns = (side // 2 for side in made.images[0].grid_thw[1:])
    assert math.isclose(rows, columns, rel_tol=0.3)
    assert made.answers_start == max(rows, columns) + 100


def test_an_unknown_geometry_lists_those_there_are() -> None:
    with pytest.raises(UnknownName, match="small"):
        geometry.config_of("70b")
