"""The queue in front of the device. No timer: the busy device forms the batch."""

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from service.batching import Cost, Scored, Sizes, Waiting, split_to_fit, take_batch
from service.errors import (
    Draining,
    Overloaded,
    deadline_passed,
)
from service.metrics import Metrics
from service.passes import Formed, Passes, fail, merged, now
from service.worker import Worker

if TYPE_CHECKING:
    from rm_core.encode import EncodedGroup

logger = logging.getLogger("vlrm.scheduler")


class Scheduler:
    """Callers submit groups; one loop takes what waits whenever the device is free."""

    def __init__(
        self, worker: Worker[Any], cost: Cost, sizes: Sizes, max_wait_s: float, metrics: Metrics
    ) -> None:
        self._worker, self._cost = worker, cost
        self._passes = Passes(worker, cost, sizes.budget, metrics)
        self.limit, self._max_wait_s = sizes.limit, max_wait_s
        self._queue: list[Waiting] = []
        self._under_way: list[Formed] = []  # the running batch, and the one prepared behind it
        self._running_since = 0.0
        self._abandoned = False
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def is_broken(self) -> bool:
        """Nothing has worked for a while; the next success mends it."""
        return self._passes.is_broken

    @property
    def budget(self) -> float:
        """What the next pass is filled to, in text tokens."""
        return self._passes.budget

    async def submit(
        self, group: "EncodedGroup", *, deadline: float = math.inf, bulk: bool = False
    ) -> Scored:
        """Wait for this group's scores; `deadline` is on the loop's clock."""
        (scored,) = await self.submit_all([group], deadline=deadline, bulk=bulk)
        return scored

    async def submit_all(
        self, groups: Sequence["EncodedGroup"], *, deadline: float = math.inf, bulk: bool = False
    ) -> list[Scored]:
        """The scores of all groups of one request, or the first error of any of them."""
        if self._abandoned:
            raise _stopped()
        arrived = now()
        if deadline <= arrived:
            raise deadline_passed()
        waiting = [
            [
                Waiting(part, self._cost(part), asyncio.Future(), arrived, deadline, bulk)
                for part in split_to_fit(group, self.limit, self._cost)
            ]
            for group in groups
        ]
        everything = [part for parts in waiting for part in parts]
        self._refuse_late(everything, arrived)
        self._queue += everything
        self._arrived.set()
        try:
            return [merged(scored) for scored in await _settled(waiting, deadline)]
        finally:
            self._forget(everything)

    def expected_wait_s(self, bulk: bool = False, deadline: float = math.inf) -> float:
        """Until such a group that came now would have its turn, by what passes took lately."""
        running, *ahead = [self._passes.times.predict(batch.cost) for batch in self._under_way] or [
            0.0
        ]
        rest = max(0.0, running - (now() - self._running_since))
        mine = (bulk, deadline, now())
        work = sum(one.cost for one in self._queue if not one.left and one.turn(now()) <= mine)
        passes = math.ceil(work / self.budget)
        return rest + sum(ahead) + (self._passes.times.predict(work, passes) if work else 0.0)

    async def run(self) -> None:
        """Serve until cancelled."""
        ahead: Formed | None = None
        while True:
            formed = (ahead or await self._form()).still_wanted()
            ahead = None
            if not formed.waiting:
                continue
            self._under_way, self._running_since = [formed], now()
            serving = asyncio.create_task(self._passes.serve(formed))
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

    def _forget(self, waiting: Sequence[Waiting]) -> None:
        """Nobody waits for these any more: their pictures need not wait either."""
        gone = {id(one) for one in waiting}
        for one in waiting:
            one.future.cancel()
        self._queue[:] = [one for one in self._queue if id(one) not in gone]

    def _refuse_late(self, waiting: Sequence[Waiting], arrived: float) -> None:
        """Shed by predicted lateness: at once, not after the caller has waited in vain."""
        if not waiting:
            return
        wait_s = self.expected_wait_s(waiting[0].bulk, waiting[0].deadline)
        own_s = self._passes.times.predict(sum(one.cost for one in waiting))
        limit_s = min(self._max_wait_s, waiting[0].deadline - arrived - own_s)
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
            full = sum(one.cost for one in self._queue if not one.left) >= self.budget
            if full and (batch := self._take()):
                self._under_way.append(Formed(batch))
                return Formed(batch, await self._packed(batch))
            self._arrived.clear()
            arrival = asyncio.create_task(self._arrived.wait())
            try:
                await asyncio.wait({serving, arrival}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                arrival.cancel()
        self._arrived.set()
        return None

    def _take(self) -> list[Waiting]:
        return take_batch(self._queue, self.budget, now())

    async def _packed(self, batch: Sequence[Waiting]) -> Sequence[Any] | None:
        try:
            return await self._worker.pack([waiting.group for waiting in batch])
        except Exception:
            logger.exception("a batch of %d groups could not be packed ahead", len(batch))
            return None  # it is tried again, and answered for, when its turn comes


async def _settled(waiting: Sequence[Sequence[Waiting]], deadline: float) -> list[list[Scored]]:
    """The results of all, in the same nesting."""
    try:
        async with asyncio.timeout_at(None if math.isinf(deadline) else deadline):
            await asyncio.gather(*(one.future for parts in waiting for one in parts))
    except TimeoutError:
        raise deadline_passed() from None
    return [[one.future.result() for one in parts] for parts in waiting]


def _stopped() -> Draining:
    return Draining("the server stopped before this request's turn; send it again")
