"""One peer as a running process: started, waited for until it answers, watched, ended."""

import os
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

from bench.peers import tree
from bench.peers.peers import Peer, Place, requests_of
from bench.peers.workloads import Item

ROOT = Path(__file__).parents[2]
START_S, STOP_S, WATCH_S = 600.0, 20.0, 0.5
HELLO = Item(None, (0, 0), "Say hello.", ("Hello.",))
JSON = {"Content-Type": "application/json"}


class PeerFailed(Exception):
    """A peer did not start or stopped answering; the message holds the end of its log."""


class PeerProcess:
    """Every process that appears below ours while it runs is the peer's: one runs at a time."""

    def __init__(self, peer: Peer, python: str, place: Place, log: Path) -> None:
        self.peer, self.place, self.log = peer, place, log
        self.url = f"http://127.0.0.1:{place.port}{peer.path}"
        self._command = peer.command(python, place)
        self._environ = environ(place.threads) | peer.variables(python)
        self.samples: list[tree.Sample] = []
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        started = time.perf_counter()
        self._before = set(tree.descendants(os.getpid()))
        self._file: IO[bytes] = self.log.open("wb")
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env=self._environ, stdout=self._file, stderr=self._file
        )
        try:
            self._wait(started)
        except BaseException:
            self._end()
            raise
        self.ready_s = time.perf_counter() - started
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._watcher.join()
        self._end()

    def _wait(self, started: float) -> None:
        """Ready is when it scores: health routes mean something else at every peer."""
        (body,) = requests_of(self.peer, HELLO, self.place)
        while not self._scores(body):
            if self._process.poll() is not None or time.perf_counter() - started > START_S:
                raise PeerFailed(f"{self.peer.title} did not start:\n{self.tail()}")
            time.sleep(0.2)

    def _scores(self, body: bytes) -> bool:
        try:
            answer = httpx.post(self.url, content=body, headers=JSON, timeout=START_S)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def _pids(self) -> list[int]:
        return [pid for pid in tree.descendants(os.getpid()) if pid not in self._before]

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def _watch(self) -> None:
        while True:
            self.samples.append(tree.sample(self._pids()))
            if self._stop.wait(WATCH_S):
                return

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        tree.end(self._pids())
        self._file.close()


def environ(threads: int) -> dict[str, str]:
    """The same for all: every core, no spinning while idle, nothing fetched or reported."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VLRM_")}
    return clean | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # its default of 15 would lose to everything else that runs
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # five seconds are few on two cores
        "TOKENIZERS_PARALLELISM": "false",
    }
