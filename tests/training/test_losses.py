"""Every loss is its formula, and shapes that would broadcast are refused."""

import math

import pytest
import torch
from torch import Tensor, tensor

from training.loss_kinds import (
    BradleyTerry,
    LabelSmoothing,
    Listwise,
    LossSpec,
    Margin,
    Scaled,
    Ties,
)
from training.losses import bradley_terry, loss_of, pair_up, rao_kupper, wins

KINDS = (BradleyTerry(), Margin(), Scaled(), LabelSmoothing(), Ties(), Listwise())


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


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


THETA = math.exp(0.7)  # a threshold of 0.7 in the terms of Rao and Kupper
LEAD = 1.5 - 0.2  # of the chosen answer in the table below


@pytest.mark.parametrize(
    ("spec", "strength", "probability"),
    [
        pytest.param(BradleyTerry(), 3.0, sigmoid(LEAD), id="bradley_terry"),
        pytest.param(Margin(margin=0.5), 3.0, sigmoid(LEAD - 1.5), id="margin"),
        pytest.param(Scaled(), 3.0, sigmoid(LEAD) ** 3, id="scaled"),
        pytest.param(
            LabelSmoothing(smoothing=0.2),
            1.0,
            sigmoid(LEAD) ** 0.8 * sigmoid(-LEAD) ** 0.2,
            id="label_smoothing",
        ),
        pytest.param(
            Ties(threshold=0.7),
            1.0,
            math.exp(1.5) / (math.exp(1.5) + THETA * math.exp(0.2)),
            id="ties_told_apart",
        ),
        pytest.param(
            Ties(threshold=0.7),
            0.0,
            (THETA**2 - 1)
            * math.exp(1.5 + 0.2)
            / (math.exp(1.5) + THETA * math.exp(0.2))
            / (math.exp(0.2) + THETA * math.exp(1.5)),
            id="ties_equal_labels",
        ),
        pytest.param(Listwise(), 3.0, sigmoid(LEAD), id="listwise_of_two"),
        pytest.param(
            BradleyTerry(centering=0.01),
            1.0,
            sigmoid(LEAD) * math.exp(-0.01 * 1.7**2),
            id="centering",
        ),
    ],
)
def test_each_kind_is_its_formula(spec: LossSpec, strength: float, probability: float) -> None:
    pairs = pair_up(tensor([1.5, 0.2], dtype=torch.float64), [2], [strength])
    assert loss_of(pairs, spec).item() == pytest.approx(-math.log(probability), rel=1e-12)


def test_the_three_outcomes_of_rao_kupper_add_up_to_one() -> None:
    first_P, second_P = tensor([2.0, -1.0, 0.0]), tensor([0.5, 3.0, 0.0])
    yes_P, no_P = torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)
    outcomes = [
        rao_kupper(first_P, second_P, no_P, 0.4),
        rao_kupper(second_P, first_P, no_P, 0.4),
        rao_kupper(first_P, second_P, yes_P, 0.4),
    ]
    total_P = torch.stack([torch.exp(-loss_P) for loss_P in outcomes]).sum(0)
    torch.testing.assert_close(total_P, torch.ones(3))


def test_equal_labels_pull_two_answers_together() -> None:
    scores_N = tensor([2.0, -1.0], requires_grad=True)
    torch.autograd.backward(loss_of(pair_up(scores_N, [2], [0.0]), Ties()).sum())
    assert scores_N.grad is not None
    assert scores_N.grad[0] > 0 > scores_N.grad[1]


def test_a_whole_order_is_chosen_from_the_best_down() -> None:
    """Written out for the order 0, 2, 1, 3 that the strengths of the rejected answers give."""
    a, b, c, d = 0.3, -0.7, 1.1, 0.2
    e = math.exp
    chosen = e(a) / (e(a) + e(b) + e(c) + e(d)) * e(c) / (e(b) + e(c) + e(d)) * e(b) / (e(b) + e(d))
    pairs = pair_up(tensor([a, b, c, d], dtype=torch.float64), [4], [2.0, 1.0, 3.0])
    loss = loss_of(pairs, Listwise()) @ pairs.weight_P
    assert loss.item() == pytest.approx(-math.log(chosen) / 3, rel=1e-12)


def test_answers_without_an_order_are_a_softmax_of_the_chosen_one() -> None:
    scores_N = tensor([0.3, -0.7, 1.1, 0.2], dtype=torch.float64)
    pairs = pair_up(scores_N, [4])
    loss = loss_of(pairs, Listwise()) @ pairs.weight_P
    assert loss.item() == pytest.approx(-scores_N.log_softmax(0)[0].item(), rel=1e-12)


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.kind)
def test_half_precision_and_far_apart_scores_stay_finite_in_float32(spec: LossSpec) -> None:
    pairs = pair_up(tensor([-80.0, 80.0]).bfloat16(), [2], [1.0])
    loss_P = loss_of(pairs, spec)
    assert loss_P.dtype == torch.float32
    assert 40 < loss_P.item() < 200


def test_strengths_that_do_not_fit_the_pairs_are_refused() -> None:
    with pytest.raises(AssertionError):
        pair_up(torch.zeros(5), [2, 3], [1.0, 2.0])
