"""What a run says: metrics.jsonl for machines, one readable line for people."""

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, TextIO


class RunLog:
    """Appends events to `metrics.jsonl`; on a terminal the progress line rewrites itself."""

    def __init__(self, folder: Path, stream: TextIO | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Line buffered: a killed run keeps every whole line it wrote.
        self._file = (folder / "metrics.jsonl").open("a", buffering=1, encoding="utf-8")
        self._stream = sys.stderr if stream is None else stream
        self._began = time.monotonic()
        self._open_line = False

    def event(self, kind: str, **values: Any) -> None:
        """One JSON line; numbers are rounded to what a reader can use."""
        seconds = round(time.monotonic() - self._began, 2)
        row = {"event": kind, "run_seconds": seconds, **_rounded(values)}
        self._file.write(json.dumps(row) + "\n")

    def say(self, text: str) -> None:
        """A line that stays."""
        self._stream.write(("\n" if self._open_line else "") + text + "\n")
        self._stream.flush()
        self._open_line = False

    def progress(self, text: str) -> None:
        """The line that moves on a terminal, and is an ordinary line in a file."""
        if not self._stream.isatty():
            self.say(text)
            return
        self._stream.write(f"\r\x1b[2K{text}")
        self._stream.flush()
        self._open_line = True

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class Tally:
    """Exact weighted means: sums and weights are kept, never means of batch means."""

    def __init__(self) -> None:
        self._sum: dict[str, float] = defaultdict(float)
        self._weight: dict[str, float] = defaultdict(float)

    def add(self, name: str, total: float, weight: float) -> None:
        self._sum[name] += total
        self._weight[name] += weight

    def means(self) -> dict[str, float]:
        return {name: self._sum[name] / weight for name, weight in self._weight.items() if weight}


def duration(seconds: float) -> str:
    """75 -> '1:15', 3725 -> '1:02:05'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return value
