"""A pairs folder: `pairs.jsonl` and the pictures it names, readable and writable by anyone."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as Pillow
from pydantic import ValidationError

from rm_core.errors import InvalidInput, TooLarge
from rm_core.images import decode
from rm_core.types import Conversation, Image, ImagePart, Part, TextPart, Turn
from training.data.pair_line import PairLine, PartLine
from training.data.records import BrokenRow, Preference

INDEX = "pairs.jsonl"
MAX_PIXELS = 100_000_000


class DataError(InvalidInput):
    """A pairs folder that is missing, broken or names a picture it does not hold."""

    code = "invalid_data"


@dataclass(frozen=True)
class FolderSource:
    """The rows of a folder by number; opening checks every line and that every picture is there."""

    folder: Path
    lines: tuple[PairLine, ...]

    @classmethod
    def open(cls, folder: Path) -> "FolderSource":
        index = folder / INDEX
        if not index.is_file():
            raise DataError(f"no preference pairs at {folder}: {INDEX} is missing")
        texts = index.read_text(encoding="utf-8").splitlines()
        lines = tuple(_line(index, n, text) for n, text in enumerate(texts, 1) if text.strip())
        if not lines:
            raise DataError(f"{index} holds no pairs")
        named = {picture for line in lines for picture in line.pictures}
        if missing := sorted(p for p in named if not (folder / p).is_file()):
            raise DataError(f"{index} names {len(missing)} missing pictures, first {missing[0]}")
        return cls(folder, lines)

    @property
    def size(self) -> int:
        return len(self.lines)

    def row(self, index: int) -> Preference:
        line = self.lines[index]
        try:
            turns = tuple(Turn(m.role, tuple(map(self._part, m.parts))) for m in line.messages)
        except (InvalidInput, TooLarge, OSError) as error:
            raise BrokenRow(line.id, line.source, str(error)) from error
        return Preference(
            id=line.id,
            conversation=Conversation(turns),
            chosen=line.chosen,
            rejected=line.rejected,
            task=line.task,
            group=line.group,
            source=line.source,
            strengths=line.strengths,
        )

    def _part(self, part: PartLine) -> Part:
        if part.image is None:
            return TextPart(part.text or "")
        return ImagePart(decode((self.folder / part.image).read_bytes(), max_pixels=MAX_PIXELS))


def write(folder: Path, rows: Iterable[Preference]) -> int:
    """Rows as a pairs folder, each distinct picture once under its digest; returns the count."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    count = 0
    with (folder / INDEX).open("w", encoding="utf-8") as index:
        for row in rows:
            index.write(json.dumps(_as_line(folder, row), ensure_ascii=False) + "\n")
            count += 1
    return count


def _as_line(folder: Path, row: Preference) -> dict[str, Any]:
    return {
        "id": row.id,
        "messages": [
            {"role": turn.role, "content": [_as_part(folder, part) for part in turn.parts]}
            for turn in row.conversation.turns
        ],
        "chosen": row.chosen,
        "rejected": list(row.rejected),
        "task": row.task,
        "group": row.group,
        "source": row.source,
        **({"strength": list(row.strengths)} if row.strengths else {}),
    }


def _as_part(folder: Path, part: Part) -> dict[str, str]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    return {"type": "image", "image": write_picture(folder, part.image)}


def write_picture(folder: Path, image: Image) -> str:
    """Save a picture losslessly under its digest; returns its name relative to the folder."""
    name = f"pictures/{image.digest.removeprefix('sha256:')[:16]}.png"
    if not (folder / name).exists():
        Pillow.fromarray(image.pixels).save(folder / name, optimize=True)
    return name


def _line(index: Path, number: int, text: str) -> PairLine:
    try:
        return PairLine.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(step) for step in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise DataError(f"{index} line {number}: {'; '.join(problems)}") from error
