"""Whoever waits gets an answer, whatever happened."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
from prometheus_client import CollectorRegistry

from rm_core.encode import EncodedGroup
from rm_core.errors import RewardError, TooManyTokens
from service.batching import Budget
from service.errors import (
    DeadlinePassed,
    Draining,
    ForwardFailed,
    NonFiniteScore,
    TooManyPatches,
)
from service.metrics import Metrics
from service.scheduler import Scheduler
from service.worker import Worker
from tests.service.serving import until
from tests.service.test_batching import encoded

BUDGET = Budget(groups=8, tokens=100, patches=16)
Forward = Callable[[Sequence[EncodedGroup]], list[list[float]]]


class Model:
    """Scores a group with its own length, unless told otherwise."""

    def __init__(self, forward: Forward | None = None) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self._forward = forward or (lambda groups: [[float(g.num_tokens)] for g in groups])

    def score_encoded(self, groups: Sequence[EncodedGroup]) -> list[list[float]]:
        self.batches.append([group.num_tokens for group in groups])
        self.threads.add(threading.current_thread().name)
        return self._forward(groups)


@asynccontextmanager
async def scheduling(model: Model) -> AsyncIterator[Scheduler]:
    worker = Worker(model)
    scheduler = Scheduler(worker, BUDGET, Metrics(CollectorRegistry()))
    loop = asyncio.create_task(scheduler.run())
    try:
        yield scheduler
    finally:
        loop.cancel()
        with suppress(asyncio.CancelledError):
            await loop
        worker.close()


class Held:
    """A forward pass that waits to be released, so that a queue can grow behind it."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def __call__(self, groups: Sequence[EncodedGroup]) -> list[list[float]]:
        assert self.release.wait(20)
        return [[float(group.num_tokens)] for group in groups]


async def test_the_busy_device_forms_the_batch() -> None:
    held = Held()
    model = Model(held)
    async with scheduling(model) as scheduler:
        first = asyncio.create_task(scheduler.submit(encoded(10)))
        await until(lambda: len(model.batches) == 1)
        others = [asyncio.create_task(scheduler.submit(encoded(n))) for n in (11, 12, 13)]
        await until(lambda: len(scheduler) == 3)
        held.release.set()
        scored = await asyncio.gather(first, *others)
    assert model.batches == [[10], [11, 12, 13]]
    assert [one.scores for one in scored] == [(10.0,), (11.0,), (12.0,), (13.0,)]
    assert len(model.threads) == 1


async def test_a_failing_forward_reaches_every_caller_and_the_next_request_works() -> None:
    answers: list[Exception | None] = [MemoryError("no room"), None]

    def forward(groups: Sequence[EncodedGroup]) -> list[list[float]]:
        if error := answers.pop(0):
            raise error
        return [[1.0] for _ in groups]

    async with scheduling(Model(forward)) as scheduler:
        calls = [scheduler.submit(encoded(10)) for _ in range(4)]
        failed = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in failed] == [ForwardFailed] * 4
        assert len({id(error) for error in failed}) == 4
        assert (await scheduler.submit(encoded(10))).scores == (1.0,)


async def test_too_few_rows_from_the_model_is_a_failure_not_a_wait() -> None:
    async with scheduling(Model(lambda groups: [[1.0]])) as scheduler:
        calls = [scheduler.submit(encoded(10)) for _ in range(2)]
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers[1], ForwardFailed)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
async def test_a_non_finite_score_is_an_error_of_its_group_alone(bad: float) -> None:
    def forward(groups: Sequence[EncodedGroup]) -> list[list[float]]:
        return [[bad if group.num_tokens == 10 else 1.0] for group in groups]

    async with scheduling(Model(forward)) as scheduler:
        calls = [scheduler.submit(encoded(n)) for n in (10, 11)]
        poisoned, fine = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(poisoned, NonFiniteScore)
    assert not isinstance(fine, BaseException)
    assert fine.scores == (1.0,)


async def test_a_caller_who_left_is_never_computed() -> None:
    held = Held()
    model = Model(held)
    async with scheduling(model) as scheduler:
        first = asyncio.create_task(scheduler.submit(encoded(10)))
        await until(lambda: len(model.batches) == 1)
        leaver = asyncio.create_task(scheduler.submit(encoded(11)))
        stayer = asyncio.create_task(scheduler.submit(encoded(12)))
        await until(lambda: len(scheduler) == 2)
        leaver.cancel()
        held.release.set()
        await asyncio.gather(first, stayer)
    assert model.batches == [[10], [12]]


async def test_a_deadline_that_passes_in_the_queue_spares_the_device() -> None:
    held = Held()
    model = Model(held)
    async with scheduling(model) as scheduler:
        first = asyncio.create_task(scheduler.submit(encoded(10)))
        await until(lambda: len(model.batches) == 1)
        now = asyncio.get_running_loop().time()
        with pytest.raises(DeadlinePassed):
            await scheduler.submit(encoded(11), deadline=now + 0.02)
        held.release.set()
        await first
        await scheduler.submit(encoded(12))
    assert model.batches == [[10], [12]]


async def test_a_deadline_already_passed_is_not_queued() -> None:
    async with scheduling(Model()) as scheduler:
        with pytest.raises(DeadlinePassed):
            await scheduler.submit(encoded(10), deadline=asyncio.get_running_loop().time())
        assert len(scheduler) == 0


@pytest.mark.parametrize(
    ("group", "error"),
    [
        pytest.param(encoded(101), TooManyTokens, id="tokens"),
        pytest.param(encoded(10, 20), TooManyPatches, id="patches"),
    ],
)
async def test_what_fits_no_batch_is_refused_at_once(
    group: EncodedGroup, error: type[RewardError]
) -> None:
    async with scheduling(Model()) as scheduler:
        with pytest.raises(error):
            await scheduler.submit(group)


async def test_a_stopping_server_answers_everybody_still_waiting() -> None:
    held = Held()
    model = Model(held)
    async with scheduling(model) as scheduler:
        running = asyncio.create_task(scheduler.submit(encoded(10)))
        await until(lambda: len(model.batches) == 1)
        queued = asyncio.create_task(scheduler.submit(encoded(11)))
        await until(lambda: len(scheduler) == 1)
        scheduler.abandon()
        late = scheduler.submit(encoded(12))
        answers = await asyncio.gather(running, queued, late, return_exceptions=True)
        held.release.set()
    assert [type(answer) for answer in answers] == [Draining] * 3
    assert model.batches == [[10]]
