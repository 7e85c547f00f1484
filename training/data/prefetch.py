"""Batches ready before they are wanted: prepared in line, or by worker processes, in step order."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from rm_core.errors import RewardError
from training.data.dataset import Batch, StageData


class WorkerDied(RewardError):
    """The data stopped coming; the stage's state is what the last save left."""

    code = "worker_died"


AHEAD = 8  # batches in flight per worker: enough to ride out a slow row, small in memory


def batches(data: StageData, start: int, stop: int, workers: int) -> Generator[Batch]:
    """The batches of steps start..stop-1; the number of workers never changes what they hold."""
    if workers == 0:
        return (data.prepare(step) for step in range(start, stop))
    return _from_workers(data, start, stop, workers)


def _from_workers(data: StageData, start: int, stop: int, workers: int) -> Generator[Batch]:
    # Spawned, not forked: a fork after torch has started its threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_adopt, initargs=(data,))
    pending: deque[Future[Batch]] = deque()
    try:
        for step in range(start, stop):
            pending.append(pool.submit(_prepare, step))
            if len(pending) > AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise WorkerDied("a process preparing batches was killed; out of memory?") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_DATA: list[StageData] = []  # in a worker process: the one stage it prepares


def _adopt(data: StageData) -> None:
    _DATA[:] = [data]
    # Ctrl-C reaches the whole process group; whether and when to stop is the trainer's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """A worker whose trainer was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _prepare(step: int) -> Batch:
    return _DATA[0].prepare(step)
