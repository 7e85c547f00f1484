"""A plan's figures are the model's own, and what cannot fit is refused with what to change."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from rm_core.checkpoints import load
from rm_core.checkpoints.source import DEFAULT
from rm_core.encode import EncodedGroup, Encoder
from rm_core.errors import InvalidInput
from rm_core.model import RewardModel
from rm_core.packing import PackedBatch, pack
from tests.training.conftest import preference
from training import cli
from training.base.model import RULES, make_config
from training.base.tokenizer import make_tokenizer
from training.config import FromCheckpoint, Part, Recipe, Stage
from training.data import folder as pairs
from training.optim import parts
from training.planner import Assumed, Card, Plan, make_plan
from training.planner.geometry import KNOWN
from training.planner.memory import GroupShape, activation_bytes, trained_parts
from training.planner.plan import DoesNotFit
from training.planner.work import products_of, with_backward

QWEN = "Qwen/Qwen2.5-VL-7B-Instruct"
BIG = Assumed(rows=1000, tokens=2200, patches=4600)


def recipe(source: str, *, data: str = "not/here", **changes: Any) -> Recipe:
    stage = {"name": "s", "data": [{"source": data}], "learning_rate": 1e-5, "epochs": 2}
    given = {"name": "r", "base": {"kind": "checkpoint", "source": source}}
    return Recipe.model_validate({**given, "stages": [{**stage, **changes}]})


def card(gib: float) -> Card:
    return Card(gib, tflops=67.0, mfu=0.4)


def plan(chosen: Recipe, gib: float = 80.0, assumed: Assumed = BIG) -> Plan:
    return make_plan(chosen, card(gib), assumed)


def counted(model: RewardModel) -> dict[Part, int]:
    return {part: sum(p.numel() for _, p in named) for part, named in parts(model).items()}


def test_the_embedded_models_parameters_are_counted_exactly() -> None:
    model = load(DEFAULT, device=torch.device("cpu"), dtype=torch.float32).model
    assert plan(recipe(str(DEFAULT))).parameters == counted(model)


@pytest.mark.slow
def test_a_base_from_nothing_is_planned_before_it_is_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.plan(["tiny.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    counts = counted(RewardModel(make_config(make_tokenizer(0)), RULES))
    assert {part: found["parameters"][part] for part in counts} == counts
    assert [stage["trained"] for stage in found["stages"]] == [["head", "language"]] * 2


@pytest.mark.parametrize("source", [name for name, shape in KNOWN.items() if "7b" in shape])
def test_the_released_7b_has_its_published_size(source: str) -> None:
    """8,292,166,656 is the total of the released shards; the vocabulary head is no part of ours."""
    parameters = plan(recipe(source)).parameters
    vocabulary_head = 152_064 * 3584
    published = sum(parameters.values()) - parameters["head"] + vocabulary_head
    assert published == 8_292_166_656
    assert parameters["vision"] + parameters["projector"] == 676_550_144


def test_the_released_3b_has_its_published_size() -> None:
    """3,754,622,976 in the released shards: word embeddings and vocabulary head are one."""
    parameters = plan(recipe("Qwen/Qwen2.5-VL-3B-Instruct")).parameters
    assert sum(parameters.values()) - parameters["head"] == 3_754_622_976


def test_the_head_counted_is_the_one_the_recipe_names() -> None:
    chosen = recipe(QWEN).model_copy(update={"base": FromCheckpoint(source=QWEN, head="mlp")})
    assert plan(chosen).parameters["head"] == 3584 * 3584 + 3584 + 3584 + 1


GROUPS = {
    "short": [preference(n, "no", "a longer wrong answer", images=0) for n in range(6)],
    "pictures": [preference(n, "no " * 9, images=2) for n in range(4)],
    "long": [preference(n, "never " * 60, images=0, chosen="yes " * 60) for n in range(2)],
}
CHANGES: dict[str, dict[str, Any]] = {
    "tower_frozen": {"frozen": ["vision"]},
    "all_trained": {"frozen": []},
    "decoder_alone": {"frozen": ["vision", "projector"]},
}


@pytest.fixture(params=GROUPS)
def groups(request: pytest.FixtureRequest, encoder: Encoder) -> list[EncodedGroup]:
    return [encoder.encode(row.as_group()) for row in GROUPS[request.param]]


@pytest.fixture(params=CHANGES)
def stage(request: pytest.FixtureRequest) -> Stage:
    return recipe("-", **CHANGES[request.param]).stages[0]


def prepared(
    model: RewardModel, stage: Stage, groups: list[EncodedGroup]
) -> tuple[PackedBatch, GroupShape]:
    """The batch, the shape of its groups, and a model that trains what the stage trains."""
    for part, named in parts(model).items():
        for _, parameter in named:
            parameter.requires_grad_(part in trained_parts(stage))
    shape = GroupShape(
        tokens=sum(g.num_tokens for g in groups) / len(groups),
        prompt=sum(len(g.prefix_ids_P) for g in groups) / len(groups),
        patches=sum(len(i.patches) for g in groups for i in g.images) / len(groups),
        answers=sum(len(g.answer_ids) for g in groups) / len(groups),
    )
    return pack(groups, model.image_pad_id, 2), shape


@contextmanager
def kept_for_backward(model: RewardModel) -> Iterator[dict[int, int]]:
    """Bytes by storage of all that autograd keeps, weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage
        return tensor

    sizes: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield sizes
    sizes.update({place: storage.nbytes() for place, storage in found.items()})


def test_activations_are_what_autograd_keeps(
    make_model: Callable[[int], RewardModel], stage: Stage, groups: list[EncodedGroup]
) -> None:
    model = make_model(0)
    batch, shape = prepared(model, stage, groups)
    with kept_for_backward(model) as sizes:
        model(batch).sum()
    planned = activation_bytes(stage, model.backbone.config, shape) * len(batch.input_ids_T)
    assert sum(sizes.values()) == pytest.approx(planned, rel=0.12)


def test_products_are_what_torch_counts(
    make_model: Callable[[int], RewardModel], stage: Stage, groups: list[EncodedGroup]
) -> None:
    """Attention on the CPU is no operation torch counts, so it is left out on both sides."""
    model = make_model(0)
    batch, shape = prepared(model, stage, groups)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(model(batch).sum())
    forward = products_of(model.backbone.config, counted(model), shape)
    planned = with_backward(stage, forward) * len(groups)
    assert counter.get_total_flops() == pytest.approx(
        planned, rel=0.06
    )  # no gradient goes to pixels


@pytest.mark.parametrize(
    ("changes", "gib", "complaint"),
    [
        pytest.param({}, 80, "alone take 108.4 GiB while head, language, projector", id="state"),
        pytest.param({}, 80, "a card of 115 GiB", id="a_larger_card"),
        pytest.param({"batch": 4}, 150, "'pack_tokens: 2923' or 'pack_tokens: 39", id="either"),
        pytest.param(
            {"frozen": ["vision", "projector", "language"], "batch": 4},
            20,
            "weights alone take 28.9",
            id="weights",
        ),
    ],
)
def test_what_cannot_fit_is_refused_with_what_to_change(
    changes: dict[str, Any], gib: float, complaint: str
) -> None:
    with pytest.raises(DoesNotFit, match=complaint):
        plan(recipe(QWEN, **changes), gib).require_fit()


@pytest.mark.parametrize("lean", [False, True])
def test_what_the_refusal_advises_fits_and_no_more_than_that(lean: bool) -> None:
    with pytest.raises(DoesNotFit) as refusal:
        plan(recipe(QWEN, batch=64), 150).require_fit()
    most = int(re.findall(r"pack_tokens: (\d+)", str(refusal.value))[lean])
    plan(recipe(QWEN, batch=64, checkpointing=lean, pack_tokens=most), 150).require_fit()
    with pytest.raises(DoesNotFit):
        plan(recipe(QWEN, batch=64, checkpointing=lean, pack_tokens=most + 1), 150).require_fit()


def test_a_group_too_large_for_any_pack_is_said_to_be() -> None:
    huge = Assumed(rows=10, tokens=1e6, patches=0)
    with pytest.raises(DoesNotFit, match="even one group of 1000000 tokens"):
        plan(recipe(QWEN), 150, huge).require_fit()


def test_steps_tokens_and_time_follow_from_the_rows() -> None:
    (stage,) = plan(recipe(QWEN, batch=100), 80).stages
    assert stage.load.steps == 20  # two epochs of 1000 rows
    assert stage.tokens == 2000 * 2200
    assert stage.seconds == pytest.approx(stage.flops / (0.4 * 67e12))
    # Six for each weight of the decoder; the tower's forward and attention come on top.
    decoder = 6 * (7_070_619_136 - 152_064 * 3584) * stage.tokens
    assert 1.0 < stage.flops / decoder < 1.5


def test_groups_are_measured_on_the_stages_own_rows(base: Path, tmp_path: Path) -> None:
    rows = [preference(n, images=1) for n in range(5)]
    pairs.write(tmp_path / "data", rows)
    made = plan(recipe(str(base), data=str(tmp_path / "data"), batch=5), assumed=Assumed())
    encoder = load(base, device=torch.device("cpu"), dtype=torch.float32).encoder
    tokens = {encoder.encode(row.as_group()).num_tokens for row in rows}
    shape = made.stages[0].load.shape
    assert (shape.tokens, shape.patches, shape.answers) == (tokens.pop(), 16.0, 2.0)
    assert made.stages[0].load.steps == 2


@pytest.mark.parametrize(
    ("source", "assumed", "complaint"),
    [
        pytest.param("some/where", BIG, "the shape of some/where is not known", id="base"),
        pytest.param(QWEN, Assumed(), "give --rows", id="rows"),
        pytest.param(QWEN, Assumed(rows=5), "give --tokens and --patches", id="groups"),
    ],
)
def test_what_a_plan_lacks_is_asked_for(source: str, assumed: Assumed, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        plan(recipe(source), assumed=assumed)


@pytest.mark.parametrize(
    ("gpus", "complaint"),
    [("8x80", "training runs on one card; plan for 1x80"), ("80", "looks like 1x80")],
)
def test_a_card_is_one_card(gpus: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        Card.parse(gpus, 67.0, 0.4)


def test_the_command_prints_the_plan_and_then_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump(recipe(QWEN).model_dump(mode="json", exclude_none=True)))
    asked = [str(file), "--rows", "1000", "--tokens", "2200", "--patches", "4600"]
    assert cli.plan([*asked, "--gpus", "1x80"]) == 1
    said = capsys.readouterr()
    assert "7,747,172,865 parameters" in said.out
    assert "does_not_fit: stage s needs" in said.err
    assert cli.plan([*asked, "--gpus", "1x160", "stages.s.pack_tokens=3000", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"]
    assert found["stages"][0]["bytes"]["weights"] == 4 * 7_747_172_865
