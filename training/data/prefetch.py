"""Batches ready before they are wanted: prepared in line, or by worker processes, in step order."""

import signal
from collections.abc import Generator
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset

from rm_core.errors import RewardError
from training.data.dataset import Batch, StageData


class WorkerDied(RewardError):
    """The data stopped coming; the stage's state is what the last save left."""

    code = "worker_died"


KILLED = ("killed by signal", "exited unexpectedly")  # torch has no type for this error
AHEAD = 8  # batches in flight per worker: enough to ride out a slow row, small in memory


def batches(data: StageData, start: int, stop: int, workers: int) -> Generator[Batch]:
    """The batches of steps start..stop-1; the number of workers never changes what they hold."""
    if workers == 0:
        return (data.prepare(step) for step in range(start, stop))
    return _from_workers(_Steps(data, start, stop), workers)


@dataclass(frozen=True)
class _Steps(Dataset[Batch]):
    data: StageData
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Batch:
        return self.data.prepare(self.start + index)


def _from_workers(steps: _Steps, workers: int) -> Generator[Batch]:
    loader = DataLoader(
        steps,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD,
        multiprocessing_context="spawn",  # a fork after torch has started its threads may hang
        worker_init_fn=_leave_stopping_to_the_trainer,
    )
    try:
        yield from loader
    except RuntimeError as error:
        if not any(sign in str(error) for sign in KILLED):
            raise
        raise WorkerDied("a process preparing batches was killed; out of memory?") from error


def _leave_stopping_to_the_trainer(_worker: int) -> None:
    """Ctrl-C reaches the whole process group; whether and when to stop is not theirs to say."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
