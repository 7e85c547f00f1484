"""CPU seconds and memory of a process with all its descendants, read from /proc."""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True)
class Sample:
    """A moment: CPU seconds so far of the peer and of programs that are not ours, and memory."""

    at: float
    cpu_s: float
    others_s: float
    mib: float


def sample(pids: list[int]) -> Sample:
    peer_s = cpu_s(pids)
    others_s = machine_s() - peer_s - time.process_time()
    return Sample(time.perf_counter(), peer_s, others_s, memory_mib(pids))


def adopt_orphans() -> None:
    """A daemon that leaves its parent becomes our child, so that no peer's work is missed."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot become the parent of orphaned processes")


def descendants(root: int) -> list[int]:
    """Every living process below `root`, without it."""
    parents = {pid: int(fields[1]) for pid, fields in _stats() if fields[0] not in "ZX"}
    found: list[int] = []
    layer = {root}
    while layer := {pid for pid, parent in parents.items() if parent in layer}:
        found += layer
    return found


def cpu_s(pids: list[int]) -> float:
    """User and system time of these and of the children they have waited for."""
    wanted = set(pids)
    # utime, stime, cutime and cstime are fields 14 to 17; `fields` starts at the third.
    ticks = (sum(map(int, fields[11:15])) for pid, fields in _stats() if pid in wanted)
    return sum(ticks) / TICKS


def machine_s() -> float:
    """CPU seconds of everything on this machine since it started: all but idle and waiting."""
    user, nice, system, _idle, _waiting, *interrupts = (PROC / "stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, *interrupts))) / TICKS


def memory_mib(pids: list[int]) -> float:
    """Proportional set size: a page shared by several processes counts once."""
    return sum(map(_pss_kib, pids)) / 1024


def end(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _stats() -> Iterator[tuple[int, list[str]]]:
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            # The name stands in brackets and may hold spaces and brackets itself.
            yield int(folder.name), text.rpartition(")")[2].split()


def _pss_kib(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
