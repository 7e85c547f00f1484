"""One forward pass after another: its scores handed out, its failures traced to who is at fault."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from traceback import clear_frames
from typing import Any

from rm_core.errors import OutOfMemory, RewardError
from service.batching import Cost, Scored, Waiting
from service.errors import ForwardFailed, NonFiniteScore, TooMuchWork
from service.metrics import Metrics
from service.timing import TimeModel
from service.worker import Worker

logger = logging.getLogger("vlrm.passes")
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


class Passes:
    """What forward passes cost, hold and teach."""

    def __init__(self, worker: Worker[Any], cost: Cost, budget: float, metrics: Metrics) -> None:
        self._worker, self._cost, self._metrics = worker, cost, metrics
        self._most = self.budget = budget
        self.times = TimeModel()
        self._failures = 0  # since the last success

    @property
    def is_broken(self) -> bool:
        return self._failures >= BROKEN_AFTER

    async def serve(self, formed: Formed) -> None:
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
        self.times.observe(formed.cost, forward_s)
        if formed.cost > SHRINK * self.budget:
            self.budget = min(self._most, GROW * self.budget)

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
                    await self.serve(still)
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
            await self.serve(Formed(parts[-1:]))
        errors = [error for part in parts if (error := part.future.exception())]
        if errors:
            self._fail_all([whole], errors[0])
        else:
            deliver(whole, merged([part.future.result() for part in parts]))


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
