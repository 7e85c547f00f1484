"""Who shares a request with whom, and that nobody pays for it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rm_core.errors import InvalidInput
from service.client.errors import RewardServerError
from service.client.merge import Merger, key_of
from service.client.question import Question
from service.schemas import Score
from tests.groups import picture
from tests.service.serving import png


class Backend:
    """Scores a text by its length; refuses requests that hold the word `bad`."""

    def __init__(self, status: int = 413) -> None:
        self.requests: list[tuple[str, list[str]]] = []
        self._status = status

    async def score(self, question: Question, responses: Sequence[str]) -> Sequence[Score]:
        self.requests.append((str(question.prompt), list(responses)))
        await asyncio.sleep(0.001)
        if any("bad" in text for text in responses):
            raise RewardServerError(self._status, "no", "refused", "id")
        return [
            Score(index=i, score=len(text), normalized=None, tokens=1)
            for i, text in enumerate(responses)
        ]


def merger(backend: Backend, *, within_s: float = 0.0, most: int = 64) -> Merger:
    return Merger(backend.score, within_s=within_s, most=most)


async def test_calls_of_one_turn_share_a_request_by_prompt() -> None:
    backend = Backend()
    merging = merger(backend)
    calls = [merging.score(Question(prompt), "x" * n) for n in range(1, 6) for prompt in "ab"]
    scores = await asyncio.gather(*calls)
    assert [(s.index, s.score) for s in scores] == [(0, n) for n in range(1, 6) for _ in "ab"]
    assert sorted(prompt for prompt, _ in backend.requests) == ["a", "b"]
    await merging.score(Question("a"), "later")
    assert len(backend.requests) == 3


async def test_a_window_lets_later_calls_in() -> None:
    async def later(n: int) -> float:
        await asyncio.sleep(n * 0.01)
        return (await merging.score(Question("a"), "x" * (n + 1))).score

    backend = Backend()
    merging = merger(backend, within_s=0.5)
    assert await asyncio.gather(*map(later, range(4))) == [1, 2, 3, 4]
    assert len(backend.requests) == 1


async def test_a_full_request_goes_at_once() -> None:
    backend = Backend()
    merging = merger(backend, within_s=60, most=3)
    async with asyncio.timeout(5):
        await asyncio.gather(*(merging.score(Question("a"), f"{n}") for n in range(6)))
    assert [len(texts) for _, texts in backend.requests] == [3, 3]


@pytest.mark.parametrize("status", [413, 422])
async def test_one_bad_response_is_refused_alone(status: int) -> None:
    merging = merger(Backend(status))
    calls = [merging.score(Question("a"), text) for text in ("one", "bad", "three")]
    one, bad, three = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(one, Score)
    assert isinstance(three, Score)
    assert (one.score, three.score) == (3, 5)
    assert isinstance(bad, RewardServerError)


async def test_a_server_that_fails_is_not_asked_for_each_alone() -> None:
    backend = Backend(503)
    merging = merger(backend)
    calls = [merging.score(Question("a"), text) for text in ("one", "bad", "three")]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, RewardServerError) for result in results)
    assert len(backend.requests) == 1


async def test_whoever_leaves_is_not_asked_for_and_harms_nobody() -> None:
    backend = Backend()
    merging = merger(backend)
    calls = [asyncio.create_task(merging.score(Question("a"), text)) for text in ("bad", "two")]
    await asyncio.sleep(0)
    calls[0].cancel()
    assert (await calls[1]).score == 3
    assert backend.requests == [("a", ["two"])]


async def test_an_unforeseen_error_reaches_everybody() -> None:
    async def broken(question: Question, responses: Sequence[str]) -> Sequence[Score]:
        raise FileNotFoundError("apple.png")

    merging = Merger(broken, within_s=0, most=9)
    calls = [merging.score(Question("a"), text) for text in "xy"]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [FileNotFoundError] * 2


async def test_closing_leaves_nobody_waiting() -> None:
    merging = merger(Backend(), within_s=60)
    call = asyncio.create_task(merging.score(Question("a"), "x"))
    await asyncio.sleep(0)
    merging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


PIXELS = picture(1, 20, 20).pixels
MESSAGES = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Question("a", [png()]), Question("a", [bytes(bytearray(png()))]), True),
        (Question("a", [Path("x")]), Question("a", [Path("x")]), True),
        (Question("a", [Path("x")]), Question("a", ["x"]), False),
        (Question("a", [PIXELS]), Question("a", [PIXELS]), True),
        (Question("a", [PIXELS]), Question("a", [PIXELS.copy()]), False),
        (Question("a", ["p", "q"]), Question("a", ["q", "p"]), False),
        (Question(MESSAGES), Question([{**MESSAGES[0]}]), True),
        (Question([{"x": 1}]), Question([{"x": True}]), False),
    ],
)
def test_only_the_same_prompt_and_pictures_are_merged(one: Any, other: Any, same: bool) -> None:
    assert (key_of(one) == key_of(other)) is same


def test_nothing_is_merged_from_nonsense() -> None:
    with pytest.raises(InvalidInput):
        Question(MESSAGES, [png()])
