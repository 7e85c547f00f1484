"""The output file: one whole line for each finished row, and what an earlier run left in it."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from rm_core.errors import InvalidInput
from service.bulk.rows import RowId

# The key only this command's answers have.
MARK = {"score": "scores", "compare": "verdict", "rank": "ranking"}


@dataclass(slots=True)
class Found:
    """What the output already holds."""

    done: set[RowId] = field(default_factory=set)
    failed: set[RowId] = field(default_factory=set)
    revision: str | None = None


class Journal:
    """Append-only; a line is one write, so that only the last one can ever be half there."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, row_id: RowId, content: Mapping[str, Any]) -> None:
        data = json.dumps({"id": row_id, **content}, allow_nan=False).encode() + b"\n"
        if self._file.write(data) != len(data):
            raise OSError(f"{self._file.name}: the line was not written whole; is the disk full?")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def recover(path: Path, command: str, *, retry_failed: bool = False) -> Found:
    """Cut off a half-written last line, then read what is done; a strange line is refused."""
    if not path.exists():
        return Found()
    cut_half_line(path)
    found = Found()
    for number, line in _lines(path):
        _take(found, line, command, f"{path} line {number}")
    if retry_failed and found.failed:
        _drop_failed(path)
        found.done -= found.failed
        found.failed = set()
    return found


def cut_half_line(path: Path) -> int:
    """Remove what follows the last line end, since that row is not done; how many bytes it was."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        keep = _end_of_last_line(file, end)
        file.truncate(keep)
        return end - keep


def _end_of_last_line(file: BinaryIO, end: int, step: int = 65_536) -> int:
    while end > 0:
        start = max(0, end - step)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def _drop_failed(path: Path) -> None:
    """Without the lines of rows that failed; the file is replaced whole or not at all."""
    kept = path.with_name(path.name + ".kept")
    with kept.open("wb") as new:
        with path.open("rb") as old:
            new.writelines(line for line in old if "error" not in json.loads(line))
        new.flush()
        os.fsync(new.fileno())
    kept.replace(path)


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield number, json.loads(line)
            except ValueError:
                raise InvalidInput(
                    f"{path} line {number} is not JSON; repair it or write to another file"
                ) from None


def _take(found: Found, line: Any, command: str, where: str) -> None:
    if not isinstance(line, dict) or "id" not in line or not {"error", MARK[command]} & line.keys():
        raise InvalidInput(f"{where} is not vlrm {command}'s output; write to another file")
    found.done.add(line["id"])
    if "error" in line:
        found.failed.add(line["id"])
        return
    revision = line["model"]["revision"]
    if found.revision not in (None, revision):
        raise InvalidInput(f"{where} is by revision {revision}, those before by {found.revision}")
    found.revision = revision
