"""How far a long run is, on standard error: one line that is rewritten, or one now and then."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

ON_A_TERMINAL_S, ELSEWHERE_S = 0.5, 10.0


@dataclass(slots=True)
class Progress:
    """`total` rows in the file, `done` by earlier runs; the rate is this run's own."""

    total: int
    done: int
    stream: TextIO
    clock: Callable[[], float] = time.monotonic
    now: int = 0
    failed: int = 0
    _started: float = field(init=False)
    _told: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self._told = self.clock()

    def row_done(self, *, failed: bool) -> None:
        self.now += 1
        self.failed += failed
        if self.clock() - self._told >= self._every_s:
            self._told = self.clock()
            self._write(self.line(), end="" if self.stream.isatty() else "\n")

    def line(self) -> str:
        """12/100 rows  3.4 rows/s  1 failed  26 s left"""
        done, left = self.done + self.now, self.total - self.done - self.now
        words = [f"{done}/{self.total} rows", f"{self.rows_per_s:.1f} rows/s"]
        words += [f"{self.failed} failed"] if self.failed else []
        words += [f"{left / self.rows_per_s:.0f} s left"] if left and self.now else []
        return "  ".join(words)

    def finish(self) -> None:
        self._write(self.line(), end="\n")

    @property
    def rows_per_s(self) -> float:
        return self.now / max(1e-9, self.clock() - self._started)

    @property
    def _every_s(self) -> float:
        return ON_A_TERMINAL_S if self.stream.isatty() else ELSEWHERE_S

    def _write(self, line: str, *, end: str) -> None:
        start = "\r\x1b[K" if self.stream.isatty() else ""
        self.stream.write(f"{start}{line}{end}")
        self.stream.flush()
