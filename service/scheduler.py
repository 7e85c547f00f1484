"""The queue in front of the device. No timer: the busy device forms the batch."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from traceback import clear_frames
from typing import TYPE_CHECKING, Any

from rm_core.errors import OutOfMemory, RewardError
from service.batching import Cost, Scored, Sizes, Waiting, split_to_fit, take_batch
from service.errors import (
    Draining,
    ForwardFailed,
    NonFiniteScore,
    Overloaded,
    TooMuchWork,
    deadline_passed,
)
from service.metrics import Metrics
from service.timing import TimeModel
from service.worker import Worker

if TYPE_CHECKING:
    from rm_core.encode import EncodedGroup

logger = logging.getLogger("vlrm.scheduler")
# After a pass that did not fit into memory the next ones are smaller; full ones grow back slowly.
SHRINK, GROW = 0.8, 1.02
# So many failures without a success between them are the device's fault, not a request's.
BROKEN_AFTER = 6
now = time.monotonic  # the event loop's clock too


@dataclass(frozen=True, slots=True)
class Formed:
    """A batch that is to run next; `packed` when its tensors are made already."""

    waiting: list[Waiting]
    packed: Sequence[Any] | None = None

    @property
    def cost(self) -> float:
        return sum(one.cost for one in self.waiting)

    def still_wanted(self) -> "Formed":
        """Without the callers who left since; its tensors then have to be made again."""
        here = [one for one in self.waiting if not one.left]
        return self if len(here) == len(self.waiting) else Formed(here)


class Scheduler:
    """Callers submit groups; one loop takes what waits whenever the device is free."""

    def __init__(
        self, worker: Worker[Any], cost: Cost, sizes: Sizes, max_wait_s: float, metrics: Metrics
    ) -> None:
        self._worker, self._cost, self._metrics = worker, cost, metrics
        self._sizes, self._max_wait_s = sizes, max_wait_s
        self.budget, self.limit = sizes.budget, sizes.limit
        self._queue: list[Waiting] = []
        self._under_way: list[Formed] = []  # the running batch, and the one prepared behind it
        self._running_since = 0.0
        self._times = TimeModel()
        self._failures = 0  # since the last success
        self._abandoned = False
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def is_broken(self) -> bool:
        """Nothing has worked for a while; the next success mends it."""
        return self._failures >= BROKEN_AFTER

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
        running, *ahead = [self._times.predict(batch.cost) for batch in self._under_way] or [0.0]
        rest = max(0.0, running - (now() - self._running_since))
        mine = (bulk, deadline, now())
        work = sum(one.cost for one in self._queue if not one.left and one.turn(now()) <= mine)
        passes = math.ceil(work / self.budget)
        return rest + sum(ahead) + (self._times.predict(work, passes) if work else 0.0)

    async def run(self) -> None:
        """Serve until cancelled."""
        ahead: Formed | None = None
        while True:
            formed = (ahead or await self._form()).still_wanted()
            ahead = None
            if not formed.waiting:
                continue
            self._under_way, self._running_since = [formed], now()
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
        own_s = self._times.predict(sum(one.cost for one in waiting))
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

    async def _serve(self, formed: Formed) -> None:
        started = now()
        groups = [waiting.group for waiting in formed.waiting]
        try:
            scores, computed = await self._worker.score(groups, formed.packed)
            rows = list(zip(formed.waiting, scores, computed, strict=True))
        except Exception as error:
            await self._recover(formed, error)
            return
        forward_s = now() - started
        for waiting, row, tokens in rows:
            queue_s = started - waiting.arrived
            deliver(waiting, Scored(tuple(row), queue_s, forward_s, tokens))
        self._worked(formed, forward_s)
        self._metrics.batch_done(groups, computed, forward_s)

    def _worked(self, formed: Formed, forward_s: float) -> None:
        self._failures = 0
        self._times.observe(formed.cost, forward_s)
        if formed.cost > SHRINK * self.budget:
            self.budget = min(self._sizes.budget, GROW * self.budget)

    async def _recover(self, formed: Formed, error: Exception) -> None:
        """Whatever it was, nobody may be left waiting: find whose fault it is by halves."""
        logger.error("a forward pass over %d groups failed", len(formed.waiting), exc_info=error)
        clear_frames(error.__traceback__)  # they hold what the failed pass had computed
        self._metrics.worker_failures.inc()
        self._failures += 1
        no_room = isinstance(error, OutOfMemory)
        if no_room and len(formed.waiting) > 1:
            self.budget = max(1.0, SHRINK * min(self.budget, formed.cost))
        if self.is_broken:
            self._fail_all(formed.waiting, error)
        elif len(formed.waiting) > 1:
            middle = len(formed.waiting) // 2
            for half in (formed.waiting[:middle], formed.waiting[middle:]):
                if (still := Formed(half).still_wanted()).waiting:
                    await self._serve(still)
        elif no_room and len(formed.waiting[0].group.answer_ids) > 1:
            await self._serve_halved(formed.waiting[0])
        else:
            self._fail_all(formed.waiting, error)

    def _fail_all(self, waiting: Sequence[Waiting], error: BaseException) -> None:
        for one in waiting:
            fail(one, _failed(error))

    async def _serve_halved(self, whole: Waiting) -> None:
        """One group in two passes, each with the prompt and half of the answers."""
        answers = whole.group.answer_ids
        middle = len(answers) // 2
        parts = []
        for half in (answers[:middle], answers[middle:]):
            group = replace(whole.group, answer_ids=half)
            parts.append(
                replace(whole, group=group, cost=self._cost(group), future=asyncio.Future())
            )
            await self._serve(Formed(parts[-1:]))
        errors = [error for part in parts if (error := part.future.exception())]
        if errors:
            self._fail_all([whole], errors[0])
        else:
            deliver(whole, merged([part.future.result() for part in parts]))


async def _settled(waiting: Sequence[Sequence[Waiting]], deadline: float) -> list[list[Scored]]:
    """The results of all, in the same nesting."""
    try:
        async with asyncio.timeout_at(None if math.isinf(deadline) else deadline):
            await asyncio.gather(*(one.future for parts in waiting for one in parts))
    except TimeoutError:
        raise deadline_passed() from None
    return [[one.future.result() for one in parts] for parts in waiting]


def merged(parts: Sequence[Scored]) -> Scored:
    """The parts of one group put together."""
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


def _failed(error: BaseException) -> RewardError:
    if isinstance(error, RewardError) and not isinstance(error, OutOfMemory):
        return error
    if isinstance(error, OutOfMemory):
        return TooMuchWork(
            "the device has not enough memory for this request, even alone; send fewer or smaller "
            "pictures, or fewer responses"
        )
    return ForwardFailed("the model failed on this request; the server's log says why")


def _stopped() -> Draining:
    return Draining("the server stopped before this request's turn; send it again")
