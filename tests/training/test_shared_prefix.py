"""Training on the packed shared prefix is training on two straight forwards of the stock model."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as modeling

from rm_core.encode import EncodedGroup, Encoder
from rm_core.model import RewardModel
from rm_core.packing import pack
from tests.training.conftest import preference
from training.losses import bradley_terry, pair_up

ROWS = [
    preference(0, "no", "not at all"),
    preference(1, "a much longer wrong answer", images=2),
    preference(2, "5", images=0, chosen="4, because two and two make four"),
]


def packed_loss(model: RewardModel, groups: list[EncodedGroup]) -> Tensor:
    batch = pack(groups, model.image_pad_id, merge_size=2)
    pairs = pair_up(model(batch), batch.group_sizes)
    return torch.dot(bradley_terry(pairs.chosen_P, pairs.rejected_P), pairs.weight_P) / len(groups)


def straight_loss(model: RewardModel, groups: list[EncodedGroup]) -> Tensor:
    """One stock forward per answer, nothing shared, positions by the library, mean over groups."""
    losses = []
    for group in groups:
        chosen, *rejected = (straight_score(model, group, i) for i in range(len(group.answer_ids)))
        losses.append(torch.stack([-torch.sigmoid(chosen - r).log() for r in rejected]).mean())
    return torch.stack(losses).mean()


def straight_score(model: RewardModel, group: EncodedGroup, answer: int) -> Tensor:
    ids = torch.from_numpy(group.prefix_ids_P).tolist() + group.answer_ids[answer].tolist()
    ids_1L = torch.tensor([ids])
    single = pack([group], model.image_pad_id, merge_size=2)
    given = {}
    if single.patches is not None:
        given = {
            "pixel_values": model._normalize(single.patches),
            "image_grid_thw": single.grid_thw,
            "mm_token_type_ids": (ids_1L == model.image_pad_id).int(),
        }
    hidden = stock(model)(input_ids=ids_1L, attention_mask=torch.ones_like(ids_1L), **given)
    score: Tensor = model.head(hidden.last_hidden_state[0, -1].to(model.head.weight.dtype))[0]
    return score


def stock(model: RewardModel) -> Any:
    """The same weights under the library's own attention; its eager one rounds to float32."""
    model.backbone.set_attn_implementation("sdpa")
    return model.backbone


@pytest.fixture
def unrounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's norms and vision rotary round to float32 on the way; here they do not.

    Both sides run the patched modules, so what is compared stays what we wrote.
    """

    def normalize(self: Any, hidden: Tensor) -> Tensor:
        scale = torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return cast(Tensor, self.weight * (hidden * scale))

    def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = cos.unsqueeze(-2).to(q.dtype), sin.unsqueeze(-2).to(q.dtype)
        half: Callable[[Tensor], Tensor] = modeling.rotate_half
        return q * cos + half(q) * sin, k * cos + half(k) * sin

    monkeypatch.setattr(modeling.Qwen2_5_VLRMSNorm, "forward", normalize)
    monkeypatch.setattr(modeling, "apply_rotary_pos_emb_vision", rotate)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        pytest.param(torch.float32, 1e-6, id="fp32"),
        pytest.param(torch.float64, 1e-12, id="fp64"),
    ],
)
def test_loss_and_gradients_equal_the_straight_reference(
    make_model: Callable[[int], RewardModel],
    encoder: Encoder,
    unrounded: None,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    groups = [encoder.encode(row.as_group()) for row in ROWS]
    ours, reference = make_model(3).to(dtype), make_model(3).to(dtype)
    loss, expected = packed_loss(ours, groups), straight_loss(reference, groups)
    torch.autograd.backward([loss, expected])
    assert loss.item() == pytest.approx(expected.item(), abs=tolerance)
    difference = (gradient(ours) - gradient(reference)).abs().max()
    assert difference <= tolerance * gradient(reference).norm()


def gradient(model: RewardModel) -> Tensor:
    """All gradients in one row; a parameter no pair reaches is an error here."""
    grads = [(name, p.grad) for name, p in model.named_parameters()]
    assert [name for name, grad in grads if grad is None] == []
    return torch.cat([grad.flatten() for _, grad in grads if grad is not None])
