"""The batch policy, on plain lists."""

import asyncio
import math
from collections import deque

import numpy as np
import pytest

from rm_core.encode import EncodedGroup
from rm_core.images import EncodedImage
from service.batching import Budget, Scored, Waiting, take_batch

BUDGET = Budget(groups=3, tokens=100, patches=16)


def encoded(tokens: int, patches: int = 0) -> EncodedGroup:
    """One prompt token and one answer; `patches` is a multiple of four."""
    ids = np.zeros(tokens - 1, np.int64)
    image = EncodedImage(np.zeros((patches, 1176), np.uint8), (1, 2, patches // 2), "")
    return EncodedGroup(
        prefix_ids_P=np.zeros(1, np.int64),
        prefix_positions_3P=np.zeros((3, 1), np.int64),
        answer_ids=(ids,),
        answers_start=1,
        images=(image,) if patches else (),
        image_tokens=patches // 4,
    )


def waiting(tokens: int, patches: int = 0, *, deadline: float = math.inf) -> Waiting:
    future: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
    return Waiting(encoded(tokens, patches), future, 0.0, deadline)


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        pytest.param([], 0, id="nobody"),
        pytest.param([(40, 0)], 1, id="one"),
        pytest.param([(40, 0), (60, 0)], 2, id="exactly_the_tokens"),
        pytest.param([(40, 0), (61, 0)], 1, id="one_token_too_many"),
        pytest.param([(40, 0), (61, 0), (2, 0)], 1, id="nobody_overtakes"),
        pytest.param([(2, 0)] * 5, 3, id="groups"),
        pytest.param([(2, 8), (2, 8)], 2, id="exactly_the_patches"),
        pytest.param([(2, 12), (2, 8)], 1, id="too_many_patches"),
    ],
)
async def test_first_come_prefix_within_the_budget(
    sizes: list[tuple[int, int]], taken: int
) -> None:
    everybody = [waiting(tokens, patches) for tokens, patches in sizes]
    queue = deque(everybody)
    assert take_batch(queue, BUDGET, now=0.0) == everybody[:taken]
    assert list(queue) == everybody[taken:]


async def test_who_left_or_is_too_late_takes_no_room() -> None:
    left, late, here = waiting(90), waiting(90, deadline=5.0), waiting(90)
    left.future.cancel()
    assert take_batch(deque([left, late, here]), BUDGET, now=5.0) == [here]
