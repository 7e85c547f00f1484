"""The queue in front of the device. No timer: the busy device forms the batch."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rm_core.errors import OutOfMemory, RewardError
from service.batching import Cost, Scored, Sizes, Waiting, split_to_fit, take_batch
from service.errors import (
    DeadlinePassed,
    Draining,
    ForwardFailed,
    NonFiniteScore,
    Overloaded,
    TooMuchWork,
)
from service.metrics import Metrics
from service.timing import TimeModel
from service.worker import Worker

if TYPE_CHECKING:
    from rm_core.encode import EncodedGroup

logger = logging.getLogger("vlrm.scheduler")
# After a pass that did not fit into memory, the next ones are this much smaller.
SHRINK = 0.8


@dataclass(frozen=True, slots=True)
class Formed:
    """A batch that is to run next; `packed` when its tensors are made already."""

    waiting: list[Waiting]
    packed: Sequence[Any] | None = None

    @property
    def cost(self) -> float:
        return sum(one.cost for one in self.waiting)


class Scheduler:
    """Callers submit groups; one loop takes what waits whenever the device is free."""

    def __init__(
        self, worker: Worker[Any], cost: Cost, sizes: Sizes, max_wait_s: float, metrics: Metrics
    ) -> None:
        self._worker, self._cost, self._metrics = worker, cost, metrics
        self.budget, self.limit, self._max_wait_s = sizes.budget, sizes.limit, max_wait_s
        self._queue: list[Waiting] = []
        self._under_way: list[Formed] = []  # the running batch, and the one prepared behind it
        self._running_since = 0.0
        self._times = TimeModel()
        self._abandoned = False
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    async def submit(
        self, group: "EncodedGroup", *, deadline: float = math.inf, bulk: bool = False
    ) -> Scored:
        """Wait for this group's scores; `deadline` is on the loop's clock."""
        if self._abandoned:
            raise _stopped()
        now = asyncio.get_running_loop().time()
        if deadline <= now:
            raise _deadline_passed()
        parts = split_to_fit(group, self.limit, self._cost)
        costs = [self._cost(part) for part in parts]
        self._refuse_late(sum(costs), deadline - now)
        waiting = [
            Waiting(part, cost, asyncio.Future(), now, deadline, bulk)
            for part, cost in zip(parts, costs, strict=True)
        ]
        self._queue += waiting
        self._arrived.set()
        return await _all_of(waiting, deadline)

    def expected_wait_s(self) -> float:
        """Until a group that came now would have its turn, by what passes took lately."""
        running = sum(self._times.predict(batch.cost) for batch in self._under_way)
        done = time.monotonic() - self._running_since if self._under_way else 0.0
        work = sum(one.cost for one in self._queue if not one.left)
        queued = self._times.predict(work, math.ceil(work / self.budget)) if work else 0.0
        return max(0.0, running - done) + queued

    async def run(self) -> None:
        """Serve until cancelled."""
        ahead: Formed | None = None
        while True:
            formed = ahead or await self._form()
            self._under_way = [formed]
            serving = asyncio.create_task(self._serve(formed))
            try:
                ahead = await self._form_behind(serving)
                await serving
            finally:
                serving.cancel()
            self._under_way = []

    def abandon(self) -> None:
        """Answer everybody still waiting, the running batch included: no score will reach them."""
        self._abandoned = True
        formed = [one for batch in self._under_way for one in batch.waiting]
        for waiting in (*formed, *self._queue):
            fail(waiting, _stopped())
        self._queue.clear()

    def _refuse_late(self, cost: float, allowed_s: float) -> None:
        """Shed by predicted lateness: at once, not after the caller has waited in vain."""
        wait_s = self.expected_wait_s()
        limit_s = min(self._max_wait_s, allowed_s - self._times.predict(cost))
        if wait_s > max(0.0, limit_s):
            raise Overloaded(
                f"a request that came now would wait about {wait_s:.1f} s for its turn; "
                "retry later",
                wait_s=wait_s,
            )

    async def _form(self) -> Formed:
        """The next batch; waits until there is one."""
        while True:
            await self._arrived.wait()
            if batch := self._take():
                return Formed(batch)
            self._arrived.clear()

    async def _form_behind(self, serving: asyncio.Task[None]) -> Formed | None:
        """A batch whose tensors are made while the device runs, once there are enough for a full
        one; one formed earlier would miss those who come in the meantime."""
        while not serving.done():
            if sum(one.cost for one in self._queue) >= self.budget and (batch := self._take()):
                self._under_way.append(Formed(batch))
                return Formed(batch, await self._packed(batch))
            self._arrived.clear()
            arrival = asyncio.create_task(self._arrived.wait())
            await asyncio.wait({serving, arrival}, return_when=asyncio.FIRST_COMPLETED)
            arrival.cancel()
        self._arrived.set()
        return None

    def _take(self) -> list[Waiting]:
        return take_batch(self._queue, self.budget, asyncio.get_running_loop().time())

    async def _packed(self, batch: Sequence[Waiting]) -> Sequence[Any] | None:
        try:
            return await self._worker.pack([waiting.group for waiting in batch])
        except Exception:
            logger.exception("a batch of %d groups could not be packed ahead", len(batch))
            return None  # it is tried again, and answered for, when its turn comes

    async def _serve(self, formed: Formed) -> None:
        loop = asyncio.get_running_loop()
        self._running_since = started = loop.time()
        groups = [waiting.group for waiting in formed.waiting]
        try:
            scores, computed = await self._worker.score(groups, formed.packed)
            rows = list(zip(formed.waiting, scores, computed, strict=True))
        except Exception as error:
            await self._recover(formed.waiting, error)
            return
        forward_s = loop.time() - started
        for waiting, row, tokens in rows:
            queue_s = started - waiting.arrived
            deliver(waiting, Scored(tuple(row), queue_s, forward_s, tokens))
        self._times.observe(formed.cost, forward_s)
        self._metrics.batch_done(groups, computed, forward_s)

    async def _recover(self, batch: list[Waiting], error: Exception) -> None:
        """Whatever it was, nobody may be left waiting: find whose fault it is by halves."""
        logger.error("a forward pass over %d groups failed", len(batch), exc_info=error)
        self._metrics.worker_failures.inc()
        if isinstance(error, OutOfMemory):
            self.budget = max(1.0, SHRINK * min(self.budget, Formed(batch).cost))
        if len(batch) == 1:
            fail(batch[0], _failed(error))
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if here := [waiting for waiting in half if not waiting.left]:
                await self._serve(Formed(here))


async def _all_of(waiting: Sequence[Waiting], deadline: float) -> Scored:
    """The parts of one group put together; one that fails fails all."""
    try:
        async with asyncio.timeout_at(None if math.isinf(deadline) else deadline):
            parts = await asyncio.gather(*(one.future for one in waiting))
    except TimeoutError:
        raise _deadline_passed() from None
    finally:
        for one in waiting:
            one.future.cancel()
    if len(parts) == 1:
        return parts[0]
    return Scored(
        scores=tuple(score for part in parts for score in part.scores),
        queue_s=parts[0].queue_s,
        forward_s=sum(part.forward_s for part in parts),
        computed_tokens=sum(part.computed_tokens for part in parts),
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


def _failed(error: Exception) -> RewardError:
    if isinstance(error, OutOfMemory):
        return TooMuchWork(
            "the device has not enough memory for this request, even alone; send fewer or smaller "
            "pictures, or fewer responses"
        )
    return ForwardFailed("the model failed on this request; the server's log says why")


def _stopped() -> Draining:
    return Draining("the server stopped before this request's turn; send it again")


def _deadline_passed() -> DeadlinePassed:
    return DeadlinePassed("X-Deadline-Ms passed before the score was there; allow more time")
