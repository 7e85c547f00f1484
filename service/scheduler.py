"""The queue in front of the device. No timer: the busy device forms the batch."""

import asyncio
import logging
import math
from collections import deque
from typing import TYPE_CHECKING

from rm_core.errors import RewardError, TooManyTokens
from service.batching import Budget, Scored, Waiting, take_batch
from service.errors import (
    DeadlinePassed,
    Draining,
    ForwardFailed,
    NonFiniteScore,
    TooManyPatches,
)
from service.metrics import Metrics
from service.worker import Worker

if TYPE_CHECKING:
    from rm_core.encode import EncodedGroup

logger = logging.getLogger("vlrm.scheduler")


class Scheduler:
    """Callers submit groups; one loop takes what waits whenever the device is free."""

    def __init__(self, worker: Worker, budget: Budget, metrics: Metrics) -> None:
        self.budget = budget
        self._worker, self._metrics = worker, metrics
        self._queue: deque[Waiting] = deque()
        self._running: list[Waiting] = []
        self._abandoned = False
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    async def submit(self, group: "EncodedGroup", *, deadline: float = math.inf) -> Scored:
        """Wait for this group's scores; `deadline` is on the loop's clock."""
        if self._abandoned:
            raise _stopped()
        refuse_oversized(group, self.budget)
        loop = asyncio.get_running_loop()
        waiting = Waiting(group, loop.create_future(), loop.time(), deadline)
        if deadline <= waiting.arrived:
            raise _deadline_passed()
        self._queue.append(waiting)
        self._arrived.set()
        try:
            async with asyncio.timeout_at(None if math.isinf(deadline) else deadline):
                return await waiting.future
        except TimeoutError:
            raise _deadline_passed() from None

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._arrived.wait()
            now = asyncio.get_running_loop().time()
            if batch := take_batch(self._queue, self.budget, now):
                await self._serve(batch)
            elif not self._queue:
                self._arrived.clear()

    def abandon(self) -> None:
        """Answer everybody still waiting, the running batch included: no score will reach them."""
        self._abandoned = True
        for waiting in (*self._running, *self._queue):
            fail(waiting, _stopped())
        self._queue.clear()

    async def _serve(self, batch: list[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        self._running = batch
        try:
            scores = await self._worker.score([waiting.group for waiting in batch])
            forward_s = loop.time() - started
            for waiting, row in zip(batch, scores, strict=True):
                deliver(waiting, Scored(tuple(row), started - waiting.arrived, forward_s))
            self._metrics.batch_done([waiting.group for waiting in batch], forward_s)
        except Exception:
            # Whatever it was, nobody may be left waiting and the loop must live on.
            logger.exception("a forward pass over %d groups failed", len(batch))
            self._metrics.worker_failures.inc()
            for waiting in batch:
                fail(waiting, ForwardFailed("the model failed on the batch this request was in"))


def refuse_oversized(group: "EncodedGroup", budget: Budget) -> None:
    """A group that fits no batch would stay at the head of the queue for ever."""
    if group.num_tokens > budget.tokens:
        raise TooManyTokens(group.num_tokens, budget.tokens)
    if group.num_patches > budget.patches:
        raise TooManyPatches(
            f"the pictures need {group.num_patches} patches; one forward pass takes "
            f"{budget.patches}. Send fewer or smaller pictures."
        )


def deliver(waiting: Waiting, scored: Scored) -> None:
    """Hand out finite scores; a NaN is an error of this group alone."""
    if not all(map(math.isfinite, scored.scores)):
        fail(waiting, NonFiniteScore("the model's score is not a finite number; it is not sent"))
    elif not waiting.left:
        waiting.future.set_result(scored)


def fail(waiting: Waiting, error: RewardError) -> None:
    if not waiting.left:
        waiting.future.set_exception(error)


def _stopped() -> Draining:
    return Draining("the server stopped before this request's turn; send it again")


def _deadline_passed() -> DeadlinePassed:
    return DeadlinePassed("X-Deadline-Ms passed before the score was there; allow more time")
