"""Which waiting groups go into the next forward pass: a pure decision, tested with plain lists."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rm_core.encode import EncodedGroup


@dataclass(frozen=True, slots=True)
class Scored:
    """A group's scores and what its wait and its forward pass took."""

    scores: tuple[float, ...]
    queue_s: float
    forward_s: float


@dataclass(eq=False, slots=True)
class Waiting:
    """A group in the queue, and the future its caller waits on."""

    group: "EncodedGroup"
    future: asyncio.Future[Scored]
    arrived: float
    deadline: float

    @property
    def left(self) -> bool:
        """The caller is gone, or was told that its time is over."""
        return self.future.done()


@dataclass(frozen=True, slots=True)
class Budget:
    """What one forward pass may hold."""

    groups: int
    tokens: int
    patches: int


def take_batch(queue: deque[Waiting], budget: Budget, now: float) -> list[Waiting]:
    """Pop the first-come prefix of `queue` that fits `budget`, skipping whom no answer reaches."""
    batch: list[Waiting] = []
    tokens = patches = 0
    while queue and len(batch) < budget.groups:
        head = queue[0]
        if head.left or head.deadline <= now:
            queue.popleft()
            continue
        tokens += head.group.num_tokens
        patches += head.group.num_patches
        if tokens > budget.tokens or patches > budget.patches:
            break
        batch.append(queue.popleft())
    return batch
