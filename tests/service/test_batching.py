"""The batch policy, on plain lists."""

import asyncio
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm_core.encode import Cut, EncodedGroup
from service.batching import AGEING_S, Scored, Sizes, Waiting, split_to_fit, take_batch
from service.errors import TooMuchWork

BUDGET = 100.0


def encoded(tokens: int, *more: int) -> EncodedGroup:
    """One prompt token and answers; the first one makes the group `tokens` long."""
    return EncodedGroup(
        prefix_ids_P=np.zeros(1, np.int64),
        prefix_positions_3P=np.zeros((3, 1), np.int64),
        answer_ids=tuple(np.zeros(length, np.int64) for length in (tokens - 1, *more)),
        answers_start=1,
        images=(),
        image_tokens=0,
        cuts=(Cut(1, 0),),
    )


def cost(group: EncodedGroup) -> float:
    return float(group.num_tokens)


def waiting(
    tokens: int, *, arrived: float = 0.0, deadline: float = math.inf, bulk: bool = False
) -> Waiting:
    future: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
    return Waiting(encoded(tokens), float(tokens), future, arrived, deadline, bulk)


@pytest.mark.parametrize(
    ("costs", "taken"),
    [
        pytest.param([], 0, id="nobody"),
        pytest.param([40], 1, id="one"),
        pytest.param([40, 60], 2, id="exactly_the_budget"),
        pytest.param([40, 61], 1, id="one_too_many"),
        pytest.param([40, 61, 2], 1, id="nobody_overtakes"),
        pytest.param([2] * 60, 50, id="as_many_as_fit"),
        pytest.param([101, 2], 1, id="after_the_budget_fell_a_large_one_goes_alone"),
    ],
)
async def test_first_come_within_the_budget(costs: list[int], taken: int) -> None:
    everybody = [waiting(cost, arrived=float(i)) for i, cost in enumerate(costs)]
    queue = list(everybody)
    assert take_batch(queue, BUDGET, now=4.0) == everybody[:taken]
    assert queue == everybody[taken:]


def test_a_cpu_is_given_smaller_passes_but_takes_groups_as_large() -> None:
    assert Sizes.on("cpu", 16_384) == Sizes(budget=4096, limit=16_384)
    assert Sizes.on("cpu", 128) == Sizes(budget=128, limit=128)
    assert Sizes.on("NVIDIA H100", 16_384) == Sizes(budget=16_384, limit=16_384)


async def test_priority_then_deadline_then_arrival() -> None:
    last = waiting(1, arrived=0, bulk=True)
    hurried_bulk = waiting(1, arrived=3, deadline=9, bulk=True)
    patient, early = waiting(1, arrived=2), waiting(1, arrived=1)
    hurried, most_hurried = waiting(1, deadline=30, arrived=3), waiting(1, deadline=20, arrived=4)
    queue = [last, hurried_bulk, patient, early, hurried, most_hurried]
    expected = [most_hurried, hurried, early, patient, hurried_bulk, last]
    assert take_batch(queue, BUDGET, now=4.0) == expected


async def test_nobody_starves() -> None:
    old_bulk, older = waiting(60, arrived=0.5, bulk=True), waiting(60, arrived=0.0)
    queue = [waiting(60, arrived=5.5, deadline=7.0), old_bulk, older]
    now = AGEING_S + 0.6
    assert take_batch(queue, BUDGET, now) == [older]
    assert take_batch(queue, BUDGET, now) == [old_bulk]


async def test_who_left_or_is_too_late_takes_no_room() -> None:
    left, late, here = waiting(90), waiting(90, deadline=5.0), waiting(90)
    left.future.cancel()
    queue = [left, late, here]
    assert take_batch(queue, BUDGET, now=5.0) == [here]
    assert not queue


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_a_large_group_is_split_at_its_answers_and_nothing_is_lost(lengths: list[int]) -> None:
    first, *rest = lengths
    group = encoded(first + 1, *rest)
    parts = split_to_fit(group, BUDGET, cost)
    assert [ids for part in parts for ids in part.answer_ids] == list(group.answer_ids)
    assert all(cost(part) <= BUDGET for part in parts)
    longer = [
        cost(replace(part, answer_ids=(*part.answer_ids, after.answer_ids[0])))
        for part, after in itertools.pairwise(parts)
    ]
    assert all(tokens > BUDGET for tokens in longer)  # no part could have held one more


def test_what_fits_no_pass_is_refused_with_its_size_and_the_limit() -> None:
    with pytest.raises(TooMuchWork, match=r"as 102 text tokens.* takes 100"):
        split_to_fit(encoded(10, 101), BUDGET, cost)
