"""The run: model and requests once, then each peer alone on the machine."""

import asyncio
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import httpx

from bench.peers import agreement, arithmetic
from bench.peers.environments import EnvironmentFailed, python_of
from bench.peers.measure import Request, Row, keep_busy
from bench.peers.peers import PEERS, REFERENCE, interpreter, version_of
from bench.peers.prepare import CHECKED, Prepared, requests
from bench.peers.process import PeerFailed, PeerProcess
from bench.peers.report import Result
from bench.peers.workloads import WORKLOADS


@dataclass(frozen=True)
class Plan:
    """What the command line asked for."""

    peers: Sequence[str]
    workloads: Sequence[str]
    in_flight: Sequence[int]
    seconds: float
    warm_up: float
    envs: Path


@dataclass
class Run:
    """What is known so far; the reference's scores come from the first peer."""

    plan: Plan
    prepared: Prepared
    reference: agreement.Scores | None = None
    results: list[Result] = field(default_factory=list)
    gflops: list[float] = field(default_factory=list)

    def each(self) -> Iterator[None]:
        """After every peer its result is there, so that a run cut short has shown something."""
        # The card's peer says what is right, so it starts first even when it is not measured.
        for name in [REFERENCE, *(name for name in self.plan.peers if name != REFERENCE)]:
            self.gflops.append(arithmetic.matmul_gflops(self.prepared.place.threads))
            self.results.append(self._one(name))
            yield
            if self.reference is None:
                return  # nobody is measured whose scores cannot be checked; the reason is told

    def _one(self, name: str) -> Result:
        """A peer that cannot be installed, started or trusted is a line with the reason."""
        say(f"{PEERS[name].title} ...")
        try:
            return self._measured(name)
        except (EnvironmentFailed, PeerFailed, agreement.Disagrees, httpx.HTTPError) as error:
            say(f"  left out: {error}")
            return Result(name, "", None, None, {}, failure=f"{type(error).__name__}: {error}")

    def _measured(self, name: str) -> Result:
        peer = PEERS[name]
        python = interpreter(peer, lambda of: python_of(of, self.plan.envs))
        place = replace(self.prepared.place, port=free_port())
        with PeerProcess(peer, python, place, self.plan.envs / f"{name}.log") as running:
            say(f"  ready after {running.ready_s:.1f} s")
            asked = requests(self.prepared, peer, place)
            difference = self._agree(running, asked)
            rows = dict(self._rows(running, asked)) if name in self.plan.peers else {}
        return Result(name, version_of(peer, python), running.ready_s, difference, rows)

    def _agree(self, running: PeerProcess, asked: Mapping[str, Sequence[Request]]) -> float:
        checked = {name: of_one[:CHECKED] for name, of_one in asked.items()}
        scores = asyncio.run(agreement.scores(running, checked))
        if self.reference is None:
            agreement.require_spread(scores)
            self.reference = scores
        difference = agreement.largest_difference(scores, self.reference)
        say(f"  scores differ by at most {difference:.1e}")
        return difference

    def _rows(
        self, running: PeerProcess, asked: Mapping[str, Sequence[Request]]
    ) -> Iterator[tuple[tuple[str, int], Row]]:
        """Each row takes up the requests where the one before stopped: none is sent twice."""
        for workload in self.plan.workloads:
            fresh = islice(asked[workload], CHECKED, None)
            for flight in self.plan.in_flight:
                at_once = max(1, flight // WORKLOADS[workload].answers)
                row = asyncio.run(
                    keep_busy(running, fresh, at_once, self.plan.warm_up, self.plan.seconds)
                )
                say(f"  {workload}, {flight}: {row.answers_per_s:.1f}/s {row.errors[:1]}")
                yield (workload, flight), row


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
