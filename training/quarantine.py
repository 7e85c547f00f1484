"""`quarantine.jsonl`: every row a run left out, once for each stage, with where it is and why."""

import json
from collections.abc import Iterable
from pathlib import Path

from training.data.dataset import Refused

FILE = "quarantine.jsonl"


class Quarantine:
    """Appends to the run's file; a row refused again in a later epoch or after a stop is known."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        written = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        self._known = set(written.splitlines())

    def add(self, stage: str, data: Iterable[str], refused: Iterable[Refused]) -> None:
        """`data` are the stage's sources by number, as its recipe names them."""
        names = list(data)
        with self._path.open("a", encoding="utf-8") as file:
            for row in refused:
                line = json.dumps(
                    {
                        "id": row.id,
                        "source": row.source,
                        "data": names[row.number],
                        "stage": stage,
                        "reason": row.reason,
                    },
                    ensure_ascii=False,
                )
                if line not in self._known:
                    self._known.add(line)
                    file.write(line + "\n")
