"""`python -m bench.peers`: every peer in turn on the same weights and requests, then the tables."""

import argparse
import os
import signal
import sys
from pathlib import Path

from bench.peers import tree
from bench.peers.environments import DEFAULT
from bench.peers.peers import PEERS
from bench.peers.prepare import describe, prepare
from bench.peers.report import markdown
from bench.peers.run import Plan, Run
from bench.peers.workloads import WORKLOADS


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    words.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    words.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    words.add_argument("--in-flight", type=int, nargs="+", default=[1, 32], help="answers")
    words.add_argument("--seconds", type=float, default=20.0, help="measured for each row")
    words.add_argument("--warm-up", type=float, default=4.0, help="seconds before, not counted")
    words.add_argument(
        "--per-second", type=float, default=40.0, help="answers to prepare for a second"
    )
    words.add_argument(
        "--envs", type=Path, default=DEFAULT, help="folder of environments and model"
    )
    words.add_argument("--output", type=Path, help="also write the tables here")
    return words


def main() -> int:
    given = parser().parse_args()
    # Ended from outside, the run still ends the peer it started.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    tree.adopt_orphans()
    envs = given.envs.expanduser().resolve()
    seconds = (given.seconds + given.warm_up) * len(given.in_flight)
    answers, threads = int(given.per_second * seconds), len(os.sched_getaffinity(0))
    prepared = prepare(envs, given.workloads, answers, threads)
    plan = Plan(given.peers, given.workloads, given.in_flight, given.seconds, given.warm_up, envs)
    run = Run(plan, prepared)
    for _ in run.each():
        text = markdown(run.results, run.gflops, describe(prepared))
        if given.output:
            given.output.write_text(text + "\n")
    print(text)
    return 1 if any(result.failure for result in run.results) else 0


if __name__ == "__main__":
    sys.exit(main())
