"""What the client costs: a call against bare httpx, and a file of rows against the load generator.

`python -m bench.client` starts a server and asks it the load generator's own questions. A shared
machine's speed drifts, so the two kinds of call take turns; processor time is of this process only.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench import report
from bench.measure import served
from bench.questions import as_body, questions
from bench.server_process import ROOT, ServerProcess
from service.client import RewardClient
from service.client.pictures import as_bytes
from training.data.records import Preference


@dataclass(frozen=True)
class Cost:
    """Of one call: the median from asking to answer, and the mean of this process's own work."""

    wall_ms: float
    cpu_ms: float


def alternating(calls: Sequence[Callable[[], object]], times: int) -> list[Cost]:
    """Each call `times` times, in turns."""
    walls: list[list[float]] = [[] for _ in calls]
    cpus = [0.0 for _ in calls]
    for _ in range(times):
        for number, call in enumerate(calls):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            cpus[number] += time.process_time() - cpu
            walls[number].append(time.perf_counter() - wall)
    return [
        Cost(1000 * statistics.median(wall), 1000 * cpu / times)
        for wall, cpu in zip(walls, cpus, strict=True)
    ]


def overhead(url: str, times: int) -> list[tuple[str, Cost]]:
    """A short text question, so that the forward pass hides as little as possible."""
    body = {"prompt": "What is 2 + 3?", "responses": ["5", "6"]}
    with httpx.Client(base_url=url) as bare, RewardClient(url) as client:
        calls: dict[str, Callable[[], object]] = {
            "httpx.Client.post(...).json()": lambda: bare.post("/score", json=body).json(),
            "RewardClient.score(...)": lambda: client.score("What is 2 + 3?", ["5", "6"]),
        }
        alternating(list(calls.values()), times=1)  # connections are opened here
        return list(zip(calls, alternating(list(calls.values()), times), strict=True))


def write_rows(folder: Path, asked: Sequence[Preference], count: int) -> Path:
    """`count` rows over the questions given, their pictures as files next to the rows."""
    lines = []
    for number, row in enumerate(asked):
        (folder / f"{number}.png").write_bytes(as_bytes(row.conversation.images[0].pixels))
    for number in range(count):
        row = asked[number % len(asked)]
        lines.append(
            {
                "id": number,
                "prompt": as_body(row)["prompt"],
                "images": [f"{number % len(asked)}.png"],
                "responses": [row.chosen, row.rejected[0]],
            }
        )
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "rows.jsonl"


@dataclass(frozen=True)
class Rate:
    """Groups per second, and what one cost the asking process itself."""

    per_s: float
    cpu_ms: float

    def __str__(self) -> str:
        return f"{self.per_s:.0f} | {self.cpu_ms:.2f} ms"


def file_rate(url: str, source: Path, count: int, concurrency: int) -> Rate:
    """`vlrm score` as a user runs it, from start to exit."""
    output = source.with_name("answers.jsonl")
    command = [sys.executable, "-m", "service.cli", "score", "--url", url, "--input", str(source)]
    command += ["--output", str(output), "--concurrency", str(concurrency)]
    started, cpu_s = time.perf_counter(), _childrens_cpu_s()
    subprocess.run(command, cwd=ROOT, check=True)
    spent_s, cpu_s = time.perf_counter() - started, _childrens_cpu_s() - cpu_s
    answered = sum(1 for line in output.open() if "scores" in json.loads(line))
    assert answered == count, f"{answered} of {count} rows have scores"
    return Rate(count / spent_s, 1000 * cpu_s / count)


def _childrens_cpu_s() -> float:
    """Of those that have ended: the server still runs, so it is not in this."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def load_rate(url: str, asked: Sequence[Preference], in_flight: int, seconds: float) -> Rate:
    bodies = [as_body(row) for row in asked]
    cpu_s = time.process_time()
    row = asyncio.run(served(url, bodies, in_flight, warm_up=0, seconds=seconds))
    assert row.errors == 0, f"{row.errors} errors under load"
    return Rate(row.requests_per_s, 1000 * (time.process_time() - cpu_s) / row.requests)


def arguments() -> argparse.Namespace:
    words = argparse.ArgumentParser(prog="python -m bench.client", description=__doc__)
    words.add_argument("--calls", type=int, default=500, help="of each kind")
    words.add_argument("--rows", type=int, default=10_000)
    words.add_argument("--questions", type=int, default=500, help="different ones, a picture each")
    words.add_argument("--concurrency", type=int, default=32)
    words.add_argument("--seconds", type=float, default=20.0, help="of load, before and after")
    return words.parse_args()


def main() -> int:
    given = arguments()
    asked = questions(given.questions)
    with tempfile.TemporaryDirectory() as name, ServerProcess("--threads", "1") as server:
        source = write_rows(Path(name), asked, given.rows)
        about, url = report.setting(server.url), server.url
        costs = overhead(url, given.calls)
        before = load_rate(url, asked, given.concurrency, given.seconds)
        rows = file_rate(url, source, given.rows, given.concurrency)
        after = load_rate(url, asked, given.concurrency, given.seconds)
    about["command"] = about["command"].replace("bench.load", "bench.client")
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    print("\n| one call | median | this process's own work |\n| --- | --- | --- |")
    for name, cost in costs:
        print(f"| `{name}` | {cost.wall_ms:.2f} ms | {cost.cpu_ms:.2f} ms |")
    print("\n| two answers and a picture | per second | the asking process's own work |")
    print("| --- | --- | --- |")
    print(f"| `bench.load`, before | {before} |\n| `bench.load`, after | {after} |")
    print(f"| `vlrm score` on {given.rows} rows, {given.questions} pictures | {rows} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
