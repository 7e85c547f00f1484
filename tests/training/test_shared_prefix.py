"""Training on the packed shared prefix is training on two straight forwards of the stock model."""

import math
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
from training.loss_kinds import (
    BradleyTerry,
    LabelSmoothing,
    Listwise,
    LossSpec,
    Margin,
    Scaled,
    Ties,
)
from training.losses import loss_of, pair_up

ROWS = [
    preference(0, "no", "not at all"),
    preference(1, "a much longer wrong answer", images=2),
    preference(2, "5", images=0, chosen="4, because two and two make four"),
]


Strengths = tuple[tuple[float, ...], ...]
ORDERED: Strengths = ((2.0, 0.7), (1.0,), (0.5,))
EQUAL: Strengths = ((2.0, 0.0), (1.0,), (0.0,))
Formula = Callable[[Tensor, Tensor], Tensor]


def packed_loss(
    model: RewardModel, groups: list[EncodedGroup], spec: LossSpec, labels: Strengths
) -> Tensor:
    batch = pack(groups, model.image_pad_id, merge_size=2)
    strengths = [one for row in labels for one in row]
    pairs = pair_up(model(batch), batch.group_sizes, strengths)
    return torch.dot(loss_of(pairs, spec), pairs.weight_P) / len(groups)


def straight_loss(
    model: RewardModel, groups: list[EncodedGroup], formula: Formula, labels: Strengths
) -> Tensor:
    """One stock forward per answer, nothing shared, positions by the library, mean over groups."""
    losses = []
    for group, strengths in zip(groups, labels, strict=True):
        scores = [straight_score(model, group, i) for i in range(len(group.answer_ids))]
        losses.append(formula(torch.stack(scores), scores[0].new_tensor(strengths)))
    return torch.stack(losses).mean()


def pairwise(formula: Formula) -> Formula:
    """A formula of differences and strengths, as the mean over a group's pairs."""
    return lambda scores, strengths: formula(scores[0] - scores[1:], strengths).mean()


def tied(lead: Tensor, strength: Tensor) -> Tensor:
    """Rao and Kupper's probabilities as they print them, worths and theta."""
    better, worse, theta = lead.exp(), torch.ones_like(lead), math.exp(0.5)
    told = better / (better + theta * worse)
    same = (theta**2 - 1) * better * worse / (better + theta * worse) / (theta * better + worse)
    return -torch.where(strength == 0, same, told).log()


def in_order(scores: Tensor, strengths: Tensor) -> Tensor:
    """Choose the best of those left, as often as something is left to beat."""
    order = [0, *(1 + strengths.argsort()).tolist()]
    ladder = [scores[order[i:]].softmax(0)[0] for i in range(len(order) - 1)]
    return -torch.stack(ladder).log().mean()


def centered(scores: Tensor, _: Tensor) -> Tensor:
    plain = -torch.sigmoid(scores[0] - scores[1:]).log()
    return (plain + 0.01 * (scores[0] + scores[1:]) ** 2).mean()


BT = pairwise(lambda lead, _: -torch.sigmoid(lead).log())
MENU: list[tuple[LossSpec, Formula]] = [
    (BradleyTerry(), BT),
    (BradleyTerry(centering=0.01), centered),
    (Margin(margin=0.5), pairwise(lambda lead, s: -torch.sigmoid(lead - 0.5 * s).log())),
    (Scaled(), pairwise(lambda lead, s: -s * torch.sigmoid(lead).log())),
    (
        LabelSmoothing(smoothing=0.1),
        pairwise(
            lambda lead, _: -0.9 * torch.sigmoid(lead).log() - 0.1 * torch.sigmoid(-lead).log()
        ),
    ),
    (Ties(threshold=0.5), pairwise(tied)),
    (Listwise(), in_order),
]


def straight_score(model: RewardModel, group: EncodedGroup, answer: int) -> Tensor:
    ids = torch.from_numpy(group.prefix_ids_P).tolist() + group.answer_ids[answer].tolist()
    ids_1L = torch.tensor([ids])
    single = pack([group], model.image_pad_id, merge_size=2)
    given = {}
    if single.patches is not None:
        given = {
            "pixel_values": model.normalize(single.patches),
            "image_grid_thw": single.grid_thw,
            "mm_token_type_ids": (ids_1L == model.image_pad_id).int(),
        }
    hidden = stock(model)(input_ids=ids_1L, attention_mask=torch.ones_like(ids_1L), **given)
    dtype = next(model.head.parameters()).dtype
    score: Tensor = model.head(hidden.last_hidden_state[0, -1].to(dtype))[0]
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


def compare(
    ours: RewardModel, reference: RewardModel, loss: Tensor, expected: Tensor, tolerance: float
) -> None:
    torch.autograd.backward([loss, expected])
    assert loss.item() == pytest.approx(expected.item(), abs=tolerance)
    difference = (gradient(ours) - gradient(reference)).abs().max()
    assert difference <= tolerance * gradient(reference).norm()


def test_float32_is_within_rounding_of_the_straight_reference(
    make_model: Callable[[int], RewardModel], encoder: Encoder, unrounded: None
) -> None:
    groups = [encoder.encode(row.as_group()) for row in ROWS]
    ours, reference = make_model(3), make_model(3)
    loss = packed_loss(ours, groups, BradleyTerry(), ORDERED)
    compare(ours, reference, loss, straight_loss(reference, groups, BT, ORDERED), 1e-6)


@pytest.mark.parametrize(("spec", "formula"), MENU, ids=[repr(spec) for spec, _ in MENU])
def test_loss_and_gradients_equal_the_straight_reference(
    make_model: Callable[[int], RewardModel],
    encoder: Encoder,
    unrounded: None,
    spec: LossSpec,
    formula: Formula,
) -> None:
    groups = [encoder.encode(row.as_group()) for row in ROWS]
    ours, reference = make_model(3).double(), make_model(3).double()
    labels = EQUAL if isinstance(spec, Ties) else ORDERED
    loss = packed_loss(ours, groups, spec, labels)
    compare(ours, reference, loss, straight_loss(reference, groups, formula, labels), 1e-12)


def gradient(model: RewardModel) -> Tensor:
    """All gradients in one row; a parameter no pair reaches is an error here."""
    grads = [(name, p.grad) for name, p in model.named_parameters()]
    assert [name for name, grad in grads if grad is None] == []
    return torch.cat([grad.flatten() for _, grad in grads if grad is not None])
