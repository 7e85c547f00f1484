"""The tables, with what their figures mean nothing without."""

import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from bench.peers.measure import Row
from bench.peers.peers import PEERS
from bench.peers.workloads import WORKLOADS
from bench.report import processor


@dataclass(frozen=True)
class Result:
    """One peer: how it started, how far its scores were off, and its rows, or why it has none."""

    name: str
    version: str
    ready_s: float | None
    difference: float | None
    rows: Mapping[tuple[str, int], Row]
    failure: str | None = None


def markdown(results: Sequence[Result], gflops: Sequence[float], model: str) -> str:
    rate = statistics.median(gflops)
    parts = [setting(gflops, model), others(results), peers_table(results)]
    measured = {name for result in results for name, _ in result.rows}
    for name in sorted(measured):
        title = f"**{name}: {WORKLOADS[name].title}**"
        parts.append(f"{title}\n\n{workload_table(results, name, rate)}")
    notes = [f"- {r.name}: {r.failure}" for r in results if r.failure]
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def setting(gflops: Sequence[float], model: str) -> str:
    command = shlex.join(["python", "-m", "bench.peers", *sys.argv[1:]])
    return (
        f"`{command}`, {time.strftime('%Y-%m-%d')}, {cores()} cores of {processor()}, "
        f"Python {platform.python_version()}, torch {version('torch')}, {model}. "
        f"Matrix products: {statistics.median(gflops):.0f} GFLOP/s on all cores "
        f"({min(gflops):.0f} to {max(gflops):.0f} between the peers' turns)."
    )


def others(results: Sequence[Result]) -> str:
    """How alone the run was: what else ran took time from whoever was measured then."""
    found = [row.others for result in results for row in result.rows.values()]
    if not found:
        return "Nothing was measured."
    return (
        f"Other programs kept {statistics.median(found):.2f} cores busy during a row "
        f"(median; {min(found):.2f} to {max(found):.2f})."
    )


def cores() -> int:
    return len(os.sched_getaffinity(0))


def peers_table(results: Sequence[Result]) -> str:
    head = ["peer", "version", "time to ready", "largest difference of a score"]
    return table(head, [_peer_cells(result) for result in results])


def _peer_cells(result: Result) -> list[str]:
    ready = "none" if result.ready_s is None else f"{result.ready_s:.1f} s"
    difference = "none" if result.difference is None else f"{result.difference:.1e}"
    return [PEERS[result.name].title, result.version, ready, difference]


def workload_table(results: Sequence[Result], workload: str, gflops: float) -> str:
    head = ["answers in flight", "peer", "answers/s", "p50", "p95", "CPU per answer"]
    head += ["cores used", "peak memory", "of the limit", "of its CPU", "others' cores"]
    head += ["answers", "errors"]
    measured = [
        (flight, result.name, row)
        for result in results
        for (name, flight), row in result.rows.items()
        if name == workload
    ]
    measured.sort(key=lambda one: one[0])  # stable: peers stay in their order
    return table(head, [_cells(*one, gflops) for one in measured])


def _cells(flight: int, name: str, row: Row, gflops: float) -> list[str]:
    return [
        str(flight),
        PEERS[name].title,
        f"{row.answers_per_s:.1f}",
        _seconds(row.p50_ms),
        _seconds(row.p95_ms),
        _seconds(row.cpu_per_answer_ms),
        f"{row.cores:.2f}",
        f"{row.peak_mib / 1024:.2f} GiB",
        f"{row.gflops / gflops:.0%}",
        f"{row.gflops / (gflops / cores() * row.cores):.0%}" if row.answers else "none",
        f"{row.others:.2f}",
        str(row.answers),
        str(len(row.errors)),
    ]


def _seconds(ms: float | None) -> str:
    return "none" if ms is None else f"{ms / 1000:.2f} s"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])
