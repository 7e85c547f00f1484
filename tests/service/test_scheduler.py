"""Whoever waits gets an answer, whatever happened."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry

from rm_core.encode import EncodedGroup
from rm_core.errors import OutOfMemory
from service.batching import Sizes
from service.errors import (
    DeadlinePassed,
    Draining,
    ForwardFailed,
    NonFiniteScore,
    Overloaded,
    TooMuchWork,
)
from service.metrics import Metrics
from service.scheduler import Scheduler
from service.worker import Worker
from tests.service.serving import until
from tests.service.test_batching import BUDGET, cost, encoded

Forward = Callable[[Sequence[EncodedGroup]], list[list[float]]]


@dataclass(frozen=True)
class Batch:
    groups: Sequence[EncodedGroup]

    @property
    def computed_tokens(self) -> list[int]:
        return [group.num_tokens for group in self.groups]


class Model:
    """Scores every answer of a group with the group's length, unless told otherwise."""

    def __init__(self, forward: Forward | None = None) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self.packers: set[str] = set()
        self._forward = forward or own_lengths

    def pack(self, groups: Sequence[EncodedGroup]) -> list[Batch]:
        self.packers.add(threading.current_thread().name)
        return [Batch(groups)]

    def forward(self, batch: Batch) -> list[list[float]]:
        self.batches.append([group.num_tokens for group in batch.groups])
        self.threads.add(threading.current_thread().name)
        return self._forward(batch.groups)


def own_lengths(groups: Sequence[EncodedGroup]) -> list[list[float]]:
    return [[float(group.num_tokens)] * len(group.answer_ids) for group in groups]


@asynccontextmanager
async def scheduling(model: Model, max_wait_s: float = 60.0) -> AsyncIterator[Scheduler]:
    worker = Worker(model)
    metrics = Metrics(CollectorRegistry())
    scheduler = Scheduler(worker, cost, Sizes(BUDGET, BUDGET), max_wait_s, metrics)
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
        return own_lengths(groups)


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


async def test_a_failing_group_is_found_and_the_others_get_their_scores() -> None:
    def forward(groups: Sequence[EncodedGroup]) -> list[list[float]]:
        if any(group.num_tokens == 13 for group in groups):
            raise ValueError("poison")
        return own_lengths(groups)

    model = Model(forward)
    async with scheduling(model) as scheduler:
        calls = [scheduler.submit(encoded(n)) for n in (10, 11, 12, 13, 14)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert (await scheduler.submit(encoded(15))).scores == (15.0,)
    assert [type(answer).__name__ for answer in answers].count("Scored") == 4
    assert isinstance(answers[3], ForwardFailed)
    assert model.batches[0] == [10, 11, 12, 13, 14]


async def test_a_model_that_always_fails_reaches_every_caller() -> None:
    def forward(groups: Sequence[EncodedGroup]) -> list[list[float]]:
        raise ValueError("broken")

    async with scheduling(Model(forward)) as scheduler:
        calls = [scheduler.submit(encoded(10)) for _ in range(4)]
        failed = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in failed] == [ForwardFailed] * 4
    assert len({id(error) for error in failed}) == 4


async def test_out_of_memory_splits_the_batch_and_makes_the_next_ones_smaller() -> None:
    def forward(groups: Sequence[EncodedGroup]) -> list[list[float]]:
        if sum(group.num_tokens for group in groups) > 50:
            raise OutOfMemory("no room")
        return own_lengths(groups)

    held = Held()
    model = Model(lambda groups: held(groups) if len(model.batches) == 1 else forward(groups))
    async with scheduling(model) as scheduler:
        first = asyncio.create_task(scheduler.submit(encoded(10)))
        await until(lambda: len(model.batches) == 1)
        calls = [asyncio.create_task(scheduler.submit(encoded(24))) for _ in range(4)]
        await until(lambda: len(scheduler) == 4)
        held.release.set()
        scored = await asyncio.gather(first, *calls)
        assert scheduler.budget == pytest.approx(0.8 * 96)
    assert [one.scores for one in scored] == [(10.0,), *[(24.0,)] * 4]
    assert model.batches == [[10], [24] * 4, [24] * 2, [24] * 2]


async def test_a_group_that_fits_no_memory_is_refused_by_name() -> None:
    def forward(groups: Sequence[EncodedGroup]) -> list[list[float]]:
        raise OutOfMemory("no room")

    async with scheduling(Model(forward)) as scheduler:
        with pytest.raises(TooMuchWork, match="not enough memory"):
            await scheduler.submit(encoded(10))


async def test_a_group_that_does_not_fit_alone_is_computed_in_halves() -> None:
    def forward(groups: Sequence[EncodedGroup]) -> list[list[float]]:
        if sum(group.num_tokens for group in groups) > 30:
            raise OutOfMemory("no room")
        return own_lengths(groups)

    model = Model(forward)
    async with scheduling(model) as scheduler:
        scored = await scheduler.submit(encoded(11, 12, 13, 14))
        assert scheduler.budget == BUDGET, "a lone group says nothing about batches"
    assert model.batches == [[50], [23], [28]]
    assert scored.scores == (23.0, 23.0, 28.0, 28.0)


async def test_the_budget_grows_back() -> None:
    scarce = [True]

    def forward(groups: Sequence[EncodedGroup]) -> list[list[float]]:
        if scarce and len(groups) > 1:
            raise OutOfMemory("no room")
        return own_lengths(groups)

    async with scheduling(Model(forward)) as scheduler:
        await asyncio.gather(*(scheduler.submit(encoded(40)) for _ in range(2)))
        assert scheduler.budget == pytest.approx(0.8 * 80)
        scarce.clear()
        for _ in range(40):
            await scheduler.submit(encoded(99))
        assert scheduler.budget == BUDGET


async def test_a_device_that_fails_every_pass_is_not_ready_until_one_works() -> None:
    broken = [True]

    def forward(groups: Sequence[EncodedGroup]) -> list[list[float]]:
        if broken:
            raise RuntimeError("an illegal memory access was encountered")
        return own_lengths(groups)

    model = Model(forward)
    async with scheduling(model) as scheduler:
        calls = [scheduler.submit(encoded(10)) for _ in range(10)]
        failed = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in failed} == {ForwardFailed}
        assert scheduler.is_broken
        assert len(model.batches) < 12, "halving ends when nothing works"
        broken.clear()
        await scheduler.submit(encoded(10))
        assert not scheduler.is_broken


async def test_a_batch_packed_ahead_for_nobody_is_not_computed() -> None:
    held = Held()
    model = Model(held)
    async with scheduling(model) as scheduler:
        first = asyncio.create_task(scheduler.submit(encoded(10)))
        await until(lambda: len(model.batches) == 1)
        leavers = [asyncio.create_task(scheduler.submit(encoded(n))) for n in (60, 41)]
        await until(lambda: len(model.packers) == 2)
        for task in leavers:
            task.cancel()
        await asyncio.gather(*leavers, return_exceptions=True)
        held.release.set()
        await first
        assert (await scheduler.submit(encoded(12))).scores == (12.0,)
    assert model.batches == [[10], [12]]


async def test_who_left_leaves_nothing_in_the_queue() -> None:
    held = Held()
    model = Model(held)
    async with scheduling(model) as scheduler:
        first = asyncio.create_task(scheduler.submit(encoded(10)))
        await until(lambda: len(model.batches) == 1)
        leaver = asyncio.create_task(scheduler.submit(encoded(11)))
        await until(lambda: len(scheduler) == 1)
        leaver.cancel()
        await until(lambda: len(scheduler) == 0)
        held.release.set()
        await first


async def test_groups_of_one_request_are_not_shed_for_each_other() -> None:
    async with scheduling(Model(slow_at_first), max_wait_s=0.5) as scheduler:
        await scheduler.submit(encoded(10))  # teaches: 0.02 s a token
        scored = await scheduler.submit_all([encoded(90) for _ in range(8)])
    assert [one.scores for one in scored] == [(90.0,)] * 8


async def test_a_bulk_backlog_sheds_bulk_work_only() -> None:
    held = Held()
    model = Model(lambda groups: held(groups) if len(model.batches) == 2 else slow_at_first(groups))
    async with scheduling(model, max_wait_s=1.0) as scheduler:
        await scheduler.submit(encoded(10))
        running = asyncio.create_task(scheduler.submit(encoded(11)))
        await until(lambda: len(model.batches) == 2)
        queued = asyncio.create_task(scheduler.submit(encoded(90), bulk=True))
        await until(lambda: len(scheduler) == 1)
        with pytest.raises(Overloaded):
            await scheduler.submit(encoded(12), bulk=True)
        urgent = asyncio.create_task(scheduler.submit(encoded(12)))
        held.release.set()
        assert (await urgent).scores == (12.0,)
        await asyncio.gather(running, queued)


def slow_at_first(groups: Sequence[EncodedGroup]) -> list[list[float]]:
    """0.02 s a token for the group that teaches the time model."""
    if [group.num_tokens for group in groups] == [10]:
        time.sleep(0.2)
    return own_lengths(groups)


def test_a_call_whose_caller_was_cancelled_still_counts_as_busy() -> None:
    held = Held()
    worker = Worker(Model(held))

    async def give_up() -> None:
        call = asyncio.create_task(worker.score([encoded(10)]))
        await until(lambda: worker.busy)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call

    asyncio.run(give_up())
    assert worker.busy
    held.release.set()
    worker.close()


async def test_a_group_larger_than_the_budget_comes_back_whole() -> None:
    model = Model()
    async with scheduling(model) as scheduler:
        scored = await scheduler.submit(encoded(61, 50, 20, 70))
    assert model.batches == [[61], [71], [71]]
    assert scored.scores == (61.0, 71.0, 71.0, 71.0)
    assert scored.computed_tokens == 61 + 71 + 71


async def test_a_full_batch_is_packed_while_the_device_runs() -> None:
    held = Held()
    model = Model(held)
    async with scheduling(model) as scheduler:
        first = asyncio.create_task(scheduler.submit(encoded(10)))
        await until(lambda: len(model.batches) == 1)
        others = [asyncio.create_task(scheduler.submit(encoded(n))) for n in (60, 40, 30)]
        await until(lambda: len(scheduler) == 1 and len(model.packers) == 2)
        held.release.set()
        await asyncio.gather(first, *others)
    assert model.batches == [[10], [60, 40], [30]]
    assert len(model.threads) == 1


async def test_who_would_wait_too_long_is_told_when_to_come_back() -> None:
    held = Held()

    def forward(groups: Sequence[EncodedGroup]) -> list[list[float]]:
        time.sleep(0.2 if len(model.batches) == 1 else 0.0)
        return held(groups) if len(model.batches) == 2 else own_lengths(groups)

    model = Model(forward)
    async with scheduling(model, max_wait_s=0.5) as scheduler:
        await scheduler.submit(encoded(10))  # teaches: 0.02 s a token
        running = asyncio.create_task(scheduler.submit(encoded(11)))
        await until(lambda: len(model.batches) == 2)
        queued = asyncio.create_task(scheduler.submit(encoded(90)))
        await until(lambda: len(scheduler) == 1)
        with pytest.raises(Overloaded, match="would wait about") as refused:
            await scheduler.submit(encoded(10))
        assert refused.value.retry_after_s >= 2
        held.release.set()
        await asyncio.gather(running, queued)


async def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    held = Held()

    def forward(groups: Sequence[EncodedGroup]) -> list[list[float]]:
        time.sleep(0.2 if len(model.batches) == 1 else 0.0)
        return held(groups) if len(model.batches) == 2 else own_lengths(groups)

    model = Model(forward)
    async with scheduling(model) as scheduler:
        await scheduler.submit(encoded(10))
        running = asyncio.create_task(scheduler.submit(encoded(50)))
        await until(lambda: len(model.batches) == 2)
        now = asyncio.get_running_loop().time()
        with pytest.raises(Overloaded):
            await scheduler.submit(encoded(10), deadline=now + 0.3)
        patient = asyncio.create_task(scheduler.submit(encoded(10), deadline=now + 30))
        held.release.set()
        assert (await patient).scores == (10.0,)
        await running


async def test_too_few_rows_from_the_model_is_a_failure_not_a_wait() -> None:
    async with scheduling(Model(lambda groups: [])) as scheduler:
        calls = [scheduler.submit(encoded(10)) for _ in range(2)]
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ForwardFailed] * 2


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


async def test_what_fits_no_batch_is_refused_at_once() -> None:
    async with scheduling(Model()) as scheduler:
        with pytest.raises(TooMuchWork):
            await scheduler.submit(encoded(101))


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
