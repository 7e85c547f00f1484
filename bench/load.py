"""Requests per second and latency of a real server, at several numbers of requests in flight.

`python -m bench.load` starts the server itself; `--url` measures a running one. Every answer is
checked to be a 200 with finite scores; an error is counted and shown, never left out.
"""

import argparse
import asyncio
import base64
import io
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import httpx
from PIL import Image as Pillow

from rm_core.types import TextPart
from tests.e2e.server_process import ServerProcess
from training.data.records import Preference
from training.data.tasks import KNOWN, TASKS, draw

WARM_UP_S = 2.0


@dataclass(frozen=True)
class Measured:
    """One row of the table; times in milliseconds."""

    in_flight: int
    requests: int
    errors: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float


def requests(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """/compare bodies: one 56-pixel picture, a question and two answers, over all picture tasks."""
    rng = Random(seed)
    names = [name for name, task in TASKS.items() if task.group != "text"]
    return [as_body(draw(rng, rng.choice(names), KNOWN)) for _ in range(count)]


def as_body(row: Preference) -> dict[str, Any]:
    (text,) = [p.text for p in row.conversation.turns[-1].parts if isinstance(p, TextPart)]
    return {
        "prompt": text,
        "images": [_data_url(image.pixels) for image in row.conversation.images],
        "response_a": row.chosen,
        "response_b": row.rejected[0],
    }


def _data_url(pixels: Any) -> str:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


async def measure(
    url: str, bodies: Sequence[dict[str, Any]], in_flight: int, seconds: float
) -> Measured:
    """Keep `in_flight` requests going for `seconds`; the first two seconds do not count."""
    limits = httpx.Limits(max_connections=in_flight)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        started = time.perf_counter()
        counts_from, ends = started + WARM_UP_S, started + WARM_UP_S + seconds
        answers = await asyncio.gather(
            *(_caller(client, bodies, number, in_flight, ends) for number in range(in_flight))
        )
    counted = [a for caller in answers for a in caller if a[0] >= counts_from and a[0] <= ends]
    took_ms = sorted(ms for _, ms, ok in counted if ok)
    errors = sum(not ok for _, _, ok in counted)
    return Measured(
        in_flight,
        len(counted),
        errors,
        len(took_ms) / seconds,
        statistics.median(took_ms),
        took_ms[math.ceil(0.95 * len(took_ms)) - 1],
    )


async def _caller(
    client: httpx.AsyncClient,
    bodies: Sequence[dict[str, Any]],
    number: int,
    step: int,
    ends: float,
) -> list[tuple[float, float, bool]]:
    """(when answered, milliseconds, whether right) for one caller who always has one in flight."""
    answers = []
    while (asked := time.perf_counter()) < ends:
        answer = await client.post("/compare", json=bodies[number % len(bodies)])
        now = time.perf_counter()
        good = answer.status_code == 200 and math.isfinite(answer.json()["margin"])
        answers.append((now, (now - asked) * 1000, good))
        number += step
    return answers


def setting(url: str) -> dict[str, str]:
    """What a figure means nothing without."""
    model = httpx.get(f"{url}/model").json()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": "python -m bench.load " + " ".join(sys.argv[1:]),
        "model": f"{model['name']} {model['revision'][:19]} {model['dtype']}",
        "processor": _processor(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "fastapi", "uvicorn")},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def markdown(about: dict[str, str], rows: Sequence[Measured]) -> str:
    lines = [", ".join(f"{name} {value}" for name, value in about.items()), ""]
    lines += ["| in flight | requests/s | p50 | p95 | answered | errors |", "| --- " * 6 + "|"]
    lines += [
        f"| {r.in_flight} | {r.requests_per_s:.0f} | {r.p50_ms:.1f} ms | {r.p95_ms:.1f} ms "
        f"| {r.requests} | {r.errors} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--url", help="a running server; default: start one on the embedded model")
    parser.add_argument("--threads", default="1", help="CPU threads of the server it starts")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    bodies = requests(500)
    with nullcontext(given) if given.url else ServerProcess("--threads", given.threads) as server:
        url = str(server.url)
        rows = [asyncio.run(measure(url, bodies, n, given.seconds)) for n in given.in_flight]
        about = setting(url)
    print(markdown(about, rows))
    if given.json:
        figures = {"setting": about, "rows": [asdict(row) for row in rows]}
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if any(row.errors for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
