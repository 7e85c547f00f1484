"""A real server process for a test: started, waited for, and ended."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

ROOT = Path(__file__).parents[1]
START_S = 120  # a loaded machine imports torch slowly


class ServerProcess:
    """`vlrm serve` on a free port."""

    def __init__(self, *flags: str, environ: Mapping[str, str] | None = None) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("VLRM_")}
        clean |= environ or {}
        command = [sys.executable, "-m", "service.cli", "serve", "--port", "0", *flags]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=clean, stderr=subprocess.PIPE, text=True
        )
        self.log: list[str] = []
        assert self._process.stderr is not None
        # Read all the time: a full pipe would stop the server.
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,))
        self._reader.start()

    def _read(self, pipe: IO[str]) -> None:
        self.log.extend(iter(pipe.readline, ""))

    def __enter__(self) -> Self:
        self.url = self._wait_for_address()
        self._wait_until_ready()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    def exit_code(self, within_s: float) -> int:
        return self._process.wait(within_s)

    def _wait_for_address(self) -> str:
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._process.poll() is None:
            if found := re.search(r"playground (http://\S+?)/\n", "".join(self.log)):
                return found[1]
            time.sleep(0.05)
        raise AssertionError(f"no server:\n{''.join(self.log)}")

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + START_S
        while httpx.get(f"{self.url}/ready").status_code != 200:
            assert time.monotonic() < end, "".join(self.log)
            time.sleep(0.05)
