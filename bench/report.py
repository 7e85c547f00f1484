"""Figures with what they mean nothing without: date, machine, model, versions and command."""

import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import httpx

from bench.measure import Measured

PACKAGES = ("torch", "transformers", "fastapi", "uvicorn")


def setting(url: str) -> dict[str, str]:
    model = httpx.get(f"{url}/model").json()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": shlex.join(["python", "-m", "bench.load", *sys.argv[1:]]),
        "model": f"{model['name']} {model['revision'][:19]} {model['dtype']}",
        "device": model["device"],
        "processor": processor(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def table(rows: Sequence[Measured]) -> str:
    """The bare scorer's columns only where it was measured."""
    compared = any(row.bare_per_s for row in rows)
    head = ["in flight", "requests/s", "p50", "p95", "answered", "errors"]
    head += ["bare scorer/s", "server / bare"] if compared else []
    lines = [head, ["---"] * len(head), *(_cells(row, compared) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Measured, compared: bool) -> list[str]:
    cells = [str(row.in_flight), f"{row.requests_per_s:.0f}"]
    cells += [f"{ms:.1f} ms" if ms is not None else "none" for ms in (row.p50_ms, row.p95_ms)]
    cells += [str(row.requests - row.errors), str(row.errors)]
    if compared:
        cells += [f"{row.bare_per_s or 0:.0f}", f"{row.ratio or 0:.2f}"]
    return cells


def plain(about: dict[str, str], rows: Sequence[Measured]) -> str:
    return "\n".join([*(f"{name}: {value}" for name, value in about.items()), "", table(rows)])


def section(about: dict[str, str], rows: Sequence[Measured]) -> str:
    """What docs/performance.md shows: the command, where it ran, and the table."""
    where = ", ".join(
        f"{name} {value}" for name, value in about.items() if name not in ("command", "date")
    )
    return f"`{about['command']}`, {about['date']}, {where}:\n\n{table(rows)}"


def write(file: Path, about: dict[str, str], rows: Sequence[Measured]) -> None:
    figures = [{**asdict(row), "ratio": row.ratio} for row in rows]
    # A figure that is no number would make the file no JSON; better to stop here.
    text = json.dumps({"setting": about, "rows": figures}, indent=2, allow_nan=False)
    file.write_text(text + "\n")
