"""The pairwise loss is its formula, and refuses shapes that would broadcast."""

import math

import pytest
import torch
from torch import Tensor, tensor

from training.losses import bradley_terry, pair_up, wins


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        pytest.param(0.0, 0.0, math.log(2), id="tie"),
        pytest.param(1.0, 0.0, math.log1p(math.exp(-1.0)), id="right_by_one"),
        pytest.param(-2.0, 0.5, math.log1p(math.exp(2.5)), id="wrong_by_two_and_a_half"),
        pytest.param(0.0, 80.0, 80.0, id="wrong_by_far_stays_finite"),
        pytest.param(200.0, 0.0, 0.0, id="right_by_far_is_zero"),
    ],
)
def test_bradley_terry_is_its_formula(chosen: float, rejected: float, expected: float) -> None:
    loss = bradley_terry(tensor([chosen]), tensor([rejected]))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_half_precision_scores_are_compared_in_float32() -> None:
    loss_P = bradley_terry(tensor([12.0]).bfloat16(), tensor([11.9375]).bfloat16())
    assert loss_P.dtype == torch.float32
    assert loss_P.item() == pytest.approx(math.log1p(math.exp(-0.0625)))


def test_pairs_put_the_first_answer_against_each_other_one() -> None:
    pairs = pair_up(tensor([5.0, 1.0, 7.0, 2.0, 3.0]), [2, 3])
    assert pairs.chosen_P.tolist() == [5.0, 7.0, 7.0]
    assert pairs.rejected_P.tolist() == [1.0, 2.0, 3.0]
    assert pairs.weight_P.tolist() == [1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("scores", "sizes"),
    [
        pytest.param(torch.zeros(4, 1), [2, 2], id="a_column"),
        pytest.param(torch.zeros(4), [2, 3], id="too_few_scores"),
        pytest.param(torch.zeros(3), [2, 1], id="a_group_of_one"),
    ],
)
def test_wrong_shapes_are_refused(scores: Tensor, sizes: list[int]) -> None:
    with pytest.raises(AssertionError):
        pair_up(scores, sizes)


def test_a_column_against_a_row_does_not_broadcast() -> None:
    with pytest.raises(AssertionError):
        bradley_terry(torch.zeros(3, 1), torch.zeros(3))


def test_a_tie_counts_one_half() -> None:
    chosen_P, rejected_P = tensor([1.0, 0.0, 2.0]), tensor([0.0, 0.0, 3.0])
    assert wins(chosen_P, rejected_P).tolist() == [1.0, 0.5, 0.0]


def test_gradient_is_one_minus_the_probability_of_the_right_order() -> None:
    chosen_P = tensor([0.3], dtype=torch.float64, requires_grad=True)
    rejected_P = tensor([-0.4], dtype=torch.float64)
    torch.autograd.backward(bradley_terry(chosen_P, rejected_P).sum())
    assert chosen_P.grad is not None
    assert chosen_P.grad.item() == pytest.approx(-1 / (1 + math.exp(0.7)), rel=1e-12)
