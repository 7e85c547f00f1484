"""Adapters change nothing at first, train alone, and merge into the scores they gave."""

from collections.abc import Callable

import pytest
import torch

from rm_core.encode import Encoder
from rm_core.model import RewardModel
from rm_core.packing import pack
from tests.checkpoints import small_config
from tests.training.conftest import preference, run
from training import lora, trainer
from training.config import LoraSpec
from training.optim import Plan, make_optimizer, set_step
from training.planner.geometry import count_adapters

SPEC = LoraSpec(rank=4, alpha=8.0)
LINEAR = (
    *(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")),
    *(f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")),
)
ADAPTERS = {
    f"backbone.language_model.layers.{layer}.{name}.lora_{side}"
    for layer in range(3)
    for name in LINEAR
    for side in "ab"
}


@pytest.fixture
def adapted(make_model: Callable[[int], RewardModel]) -> RewardModel:
    model = make_model(1)
    lora.attach(model, SPEC, seed=0)
    return model


def scores(model: RewardModel, encoder: Encoder) -> torch.Tensor:
    rows = [preference(n, "no", "never ever", images=n % 3) for n in range(4)]
    groups = [encoder.encode(row.as_group()) for row in rows]
    with torch.no_grad():
        scores_N: torch.Tensor = model(pack(groups, model.image_pad_id, model.rules.merge_size))
    return scores_N


def test_a_new_adapter_changes_no_score(
    make_model: Callable[[int], RewardModel], adapted: RewardModel, encoder: Encoder
) -> None:
    assert torch.equal(scores(adapted, encoder), scores(make_model(1), encoder))


def test_exactly_adapters_projector_and_head_train(
    make_job: Callable[..., trainer.Job], adapted: RewardModel
) -> None:
    job = make_job(lora=SPEC.model_dump(), frozen=["vision"])
    plan = Plan(job.stage, job.steps)
    optimizer = make_optimizer(adapted, plan)
    set_step(adapted, optimizer, plan, 0)
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    merger = {n for n, _ in adapted.named_parameters() if n.startswith("backbone.visual.merger.")}
    assert trained == {*ADAPTERS, *merger, "head.weight", "head.bias"}
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for name, p in adapted.named_parameters() if name in trained}


def test_merged_scores_are_the_adapters_and_the_names_are_the_models_own(
    make_job: Callable[..., trainer.Job],
    make_model: Callable[[int], RewardModel],
    adapted: RewardModel,
    encoder: Encoder,
) -> None:
    plain = make_model(1)
    run(make_job(lora=SPEC.model_dump(), frozen=["vision"]), adapted)
    frozen = adapted.backbone.language_model.layers[0].mlp.up_proj.inner.weight
    assert torch.equal(frozen, plain.backbone.language_model.layers[0].mlp.up_proj.weight)
    before = scores(adapted, encoder)
    lora.merge(adapted)
    assert adapted.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(scores(adapted, encoder), before, atol=1e-5, rtol=0)
    assert (before - scores(plain, encoder)).abs().max() > 1e-3


def test_an_adapter_is_its_formula() -> None:
    inner = torch.nn.Linear(6, 5)
    layer = lora.LoraLinear(inner, SPEC, torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.lora_b.normal_()
    x = torch.randn(3, 6)
    weight = inner.weight + 8.0 / 4 * layer.lora_b @ layer.lora_a
    torch.testing.assert_close(layer(x), x @ weight.T + inner.bias)


def test_adapters_are_counted_exactly(adapted: RewardModel, encoder: Encoder) -> None:
    added = [p.numel() for name, p in adapted.named_parameters() if name in ADAPTERS]
    assert len(added) == len(ADAPTERS)
    assert count_adapters(small_config(encoder.tokenizer), SPEC) == sum(added)
