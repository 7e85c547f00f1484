"""Requests per second and latency of a real server, at several numbers of requests in flight.

`python -m bench.load` starts the server itself; `--url` measures a running one. Every answer is
checked to be a 200 with a finite margin; an error is counted and shown, never left out.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from bench import report
from bench.measure import Measured, bare_per_s, served
from bench.questions import as_body, as_group, questions
from bench.server_process import ServerProcess
from rm_core.scorer import Scorer


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    words.add_argument("--url", help="a running server; default: start one")
    words.add_argument("--model", help="checkpoint of the server it starts; default: embedded")
    words.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    words.add_argument("--in-flight", type=int, nargs="+", default=[1, 8, 32])
    words.add_argument("--seconds", type=float, default=15.0, help="measured for each number")
    words.add_argument("--warm-up", type=float, default=2.0, help="seconds before, not counted")
    words.add_argument(
        "--bare", action="store_true", help="also Scorer.score alone on the same questions"
    )
    words.add_argument("--markdown", action="store_true", help="the section for the docs page")
    words.add_argument("--json", type=Path, help="also write the figures here")
    return words


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    words = parser()
    given = words.parse_args(argv)
    if given.url and (given.model or given.bare):
        words.error("--url measures what runs there: --model and --bare need a server started here")
    return given


def server_flags(given: argparse.Namespace) -> list[str]:
    return ["--threads", str(given.threads), *(["--model", given.model] if given.model else [])]


def run(given: argparse.Namespace, url: str) -> list[Measured]:
    rows = questions(500)
    bodies, groups = [as_body(row) for row in rows], [as_group(row) for row in rows]
    times = {"warm_up": given.warm_up, "seconds": given.seconds}
    scorer = Scorer.load(given.model) if given.bare else None
    measured = []
    for number in given.in_flight:
        row = asyncio.run(served(url, bodies, number, **times))
        if scorer:
            # Next to the server's own turn, while it idles: a shared machine's speed drifts.
            row = replace(row, bare_per_s=bare_per_s(scorer, groups, number, **times))
        measured.append(row)
    return measured


def main() -> int:
    given = arguments(sys.argv[1:])
    torch.set_num_threads(given.threads)
    place = nullcontext(given) if given.url else ServerProcess(*server_flags(given))
    with place as server:
        url = str(server.url)
        about, rows = report.setting(url), run(given, url)
    print((report.section if given.markdown else report.plain)(about, rows))
    if given.json:
        report.write(given.json, about, rows)
    return 1 if any(row.errors or row.p50_ms is None for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
