"""The one thread that owns the device, and one beside it that prepares its next batch."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from rm_core.encode import EncodedGroup

T = TypeVar("T")


class Packed(Protocol):
    """What the scheduler needs to know of a batch: rm_core.PackedBatch, seen from here."""

    @property
    def computed_tokens(self) -> Sequence[int]: ...


P = TypeVar("P", bound=Packed)


class Model(Protocol[P]):
    """The part of rm_core.Scorer that makes batches and runs them on the device."""

    def pack(self, groups: Sequence["EncodedGroup"]) -> Sequence[P]: ...

    def forward(self, batch: P) -> list[list[float]]: ...


class Worker(Generic[P]):
    """Runs one forward pass at a time, always on the same thread."""

    def __init__(self, model: Model[P]) -> None:
        self._model = model
        self._device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pack")
        self.busy = False

    async def pack(self, groups: Sequence["EncodedGroup"]) -> Sequence[P]:
        """Lay out batches while the device may be running another one."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._ahead, self._model.pack, groups)

    async def score(
        self, groups: Sequence["EncodedGroup"], packed: Sequence[P] | None = None
    ) -> tuple[list[list[float]], list[int]]:
        """Scores and computed tokens of each group."""

        def run() -> tuple[list[list[float]], list[int]]:
            batches = packed or self._model.pack(groups)
            scores = [row for batch in batches for row in self._model.forward(batch)]
            return scores, [tokens for batch in batches for tokens in batch.computed_tokens]

        return await self.run(run)

    async def run(self, call: Callable[[], T]) -> T:
        def busily() -> T:
            # Set on the thread itself: whoever waits may be cancelled, the call goes on.
            self.busy = True
            try:
                return call()
            finally:
                self.busy = False

        return await asyncio.get_running_loop().run_in_executor(self._device, busily)

    def close(self) -> None:
        """Let the threads end after their current call."""
        for thread in (self._device, self._ahead):
            thread.shutdown(wait=False, cancel_futures=True)


def limit_threads(threads: int) -> None:
    """How many CPU threads one forward pass may use; 0 leaves torch's own choice."""
    if threads:
        import torch  # slow, and bad settings must be refused before it

        torch.set_num_threads(threads)
