"""The one thread that owns the device. Nothing else may call the model."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rm_core.encode import EncodedGroup

T = TypeVar("T")


class Model(Protocol):
    """The part of rm_core.Scorer that runs on the device."""

    def score_encoded(self, groups: Sequence["EncodedGroup"]) -> list[list[float]]: ...


class Worker:
    """Runs one call at a time, always on the same thread."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self.busy = False

    async def score(self, groups: Sequence["EncodedGroup"]) -> list[list[float]]:
        return await self.run(lambda: self._model.score_encoded(groups))

    async def run(self, call: Callable[[], T]) -> T:
        self.busy = True
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        finally:
            self.busy = False

    def close(self) -> None:
        """Let the thread end after its current call."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def limit_threads(threads: int) -> None:
    """How many CPU threads one forward pass may use; 0 leaves torch's own choice."""
    if threads:
        import torch  # slow, and bad settings must be refused before it

        torch.set_num_threads(threads)
