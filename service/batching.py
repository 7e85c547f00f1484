"""Which waiting groups go into the next forward pass: pure decisions, tested with plain lists."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from service.errors import TooMuchWork

if TYPE_CHECKING:
    from rm_core.encode import EncodedGroup

# Who has waited this long goes next, whatever else has come: nobody starves.
AGEING_S = 5.0
# On a CPU larger passes are no faster, they only make everybody in them wait for the last one.
CPU_BUDGET = 4096
Cost = Callable[["EncodedGroup"], float]


@dataclass(frozen=True, slots=True)
class Scored:
    """A group's scores, what its wait and its pass took, and the tokens it added to the pass."""

    scores: tuple[float, ...]
    queue_s: float
    forward_s: float
    computed_tokens: int


@dataclass(eq=False, slots=True)
class Waiting:
    """A group in the queue, and the future its caller waits on."""

    group: "EncodedGroup"
    cost: float  # in text tokens
    future: asyncio.Future[Scored]
    arrived: float
    deadline: float
    bulk: bool = False

    @property
    def left(self) -> bool:
        """The caller is gone, or was told that its time is over."""
        return self.future.done()

    def turn(self, now: float) -> tuple[bool, float, float]:
        """Sorts the queue: aged ones by arrival, then by priority, deadline and arrival."""
        if now - self.arrived > AGEING_S:
            return (False, -math.inf, self.arrived)
        return (self.bulk, self.deadline, self.arrived)


@dataclass(frozen=True, slots=True)
class Sizes:
    """In text tokens: what a forward pass is filled to, and what one group may take at most."""

    budget: float
    limit: float

    @classmethod
    def on(cls, device: str, limit: float) -> "Sizes":
        return cls(min(limit, CPU_BUDGET) if device == "cpu" else limit, limit)


def take_batch(queue: list[Waiting], budget: float, now: float) -> list[Waiting]:
    """Remove from `queue` who goes next; whom no answer reaches any more is dropped.

    Nobody overtakes: the first one that does not fit ends the batch, and the next starts with it.
    """
    here = [one for one in queue if not one.left and one.deadline > now]
    here.sort(key=lambda one: one.turn(now))
    taken, cost = 0, 0.0
    for one in here:
        cost += one.cost
        if taken and cost > budget:
            break
        taken += 1
    queue[:] = here[taken:]
    return here[:taken]


def split_to_fit(group: "EncodedGroup", limit: float, cost: Cost) -> list["EncodedGroup"]:
    """The group, or parts of it with some of the answers each, in order, where it is too large.

    Raises TooMuchWork when the prompt with one answer is over the limit already.
    """
    parts: list[EncodedGroup] = []
    answers = list(group.answer_ids)
    while answers:
        fitting = _fitting(group, answers, limit, cost)
        parts.append(replace(group, answer_ids=tuple(answers[:fitting])))
        del answers[:fitting]
    return parts


def _fitting(group: "EncodedGroup", answers: list[Any], limit: float, cost: Cost) -> int:
    """How many of the first answers fit one forward pass; cost grows with each."""
    low, high = 0, len(answers)
    while low < high:
        middle = (low + high + 1) // 2
        if cost(replace(group, answer_ids=tuple(answers[:middle]))) <= limit:
            low = middle
        else:
            high = middle - 1
    if low == 0:
        raise too_much_work(cost(replace(group, answer_ids=tuple(answers[:1]))), limit)
    return low


def too_much_work(cost: float, limit: float) -> TooMuchWork:
    return TooMuchWork(
        f"the prompt with one answer takes as much arithmetic as {math.ceil(cost)} text tokens; "
        f"one forward pass of this server takes {int(limit)} (max_batch_tokens). Send fewer or "
        "smaller pictures, or less text; nothing is truncated."
    )
