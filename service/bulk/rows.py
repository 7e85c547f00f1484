"""Rows of a JSONL or Parquet file, and what one row asks."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rm_core.errors import InvalidInput
from service.client.pictures import Picture, is_url

RowId: TypeAlias = str | int
ANSWERS = {
    "score": ("responses",),
    "rank": ("responses",),
    "compare": ("response_a", "response_b"),
}
PROMPTS = ("prompt", "messages", "images")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the input: `where` is for sentences, `fields` is everything but the id."""

    id: RowId
    where: str
    fields: Mapping[str, Any]


def read(path: Path) -> Iterator[Row]:
    """Every row in file order; a line that is no row ends the reading with its number."""
    match path.suffix:
        case ".jsonl":
            values = _json_lines(path)
        case ".parquet":
            values = _parquet_rows(path)
        case _:
            raise InvalidInput(f"{path}: rows are read from .jsonl or .parquet")
    for number, value in values:
        yield _row(value, f"{path} row {number}")


def count_and_check(path: Path) -> int:
    """How many rows there are; each id once, since ids tell a later run what is done."""
    seen: dict[RowId, str] = {}
    for row in read(path):
        if row.id in seen:
            raise InvalidInput(
                f"{row.where}: the id {row.id!r} is already that of {seen[row.id]}; "
                "ids must differ, they tell a later run what is done"
            )
        seen[row.id] = row.where
    return len(seen)


def _row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise InvalidInput(f"{where} is not an object with an id and a prompt")
    row_id = value.get("id")
    if not isinstance(row_id, str | int) or isinstance(row_id, bool):
        raise InvalidInput(f"{where} needs an id, a text or a whole number, not {row_id!r}")
    return Row(row_id, where, {name: of for name, of in value.items() if name != "id"})


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise InvalidInput(f"{path} row {number} is not JSON: {error}") from None


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise InvalidInput(
            f"{path}: reading Parquet needs pyarrow: pip install 'vlrm[parquet]'"
        ) from None
    number = 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256):
            for value in batch.to_pylist():
                number += 1
                yield number, _without_nulls(value)


def _without_nulls(value: Any) -> Any:
    """Parquet writes a null where a JSON line would leave the key out."""
    match value:
        case dict():
            return {name: _without_nulls(of) for name, of in value.items() if of is not None}
        case list():
            return [_without_nulls(of) for of in value]
    return value


@dataclass(frozen=True, slots=True)
class Asking:
    """The arguments of one call on the client."""

    prompt: Any
    answers: tuple[Any, ...]
    images: tuple[Picture, ...]


def asking(row: Row, command: str, base: Path, keep: tuple[str, ...] = ()) -> Asking:
    """What `row` asks; paths count from the folder `base`. Raises InvalidInput for a wrong row."""
    fields, needed = row.fields, ANSWERS[command]
    _refuse_unknown(row, {*PROMPTS, *needed, *keep})
    if ("prompt" in fields) == ("messages" in fields):
        raise InvalidInput(f"{row.where} needs either prompt or messages")
    if missing := [name for name in needed if name not in fields]:
        raise InvalidInput(f"{row.where} needs {missing[0]} for vlrm {command}", field=missing[0])
    images = fields.get("images", [])
    if not isinstance(images, list):
        raise InvalidInput(f"{row.where}: images is a list", field="images")
    prompt = fields["prompt"] if "prompt" in fields else _messages(fields["messages"], base)
    pictures = tuple(_picture(image, base) for image in images)
    return Asking(prompt, tuple(fields[name] for name in needed), pictures)


def _refuse_unknown(row: Row, known: set[str]) -> None:
    # An `image` that was meant to be `images` would be scored without its picture.
    if unknown := sorted(set(row.fields) - known):
        raise InvalidInput(
            f"{row.where} has the unknown column {unknown[0]!r}; correct its name, or copy it to "
            f"the output with --keep {unknown[0]}",
            field=unknown[0],
        )


def _messages(messages: Any, base: Path) -> Any:
    if not isinstance(messages, list):
        return messages
    return [_message(message, base) for message in messages]


def _message(message: Any, base: Path) -> Any:
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return message  # the server names what is wrong with it
    return {**message, "content": [_part(part, base) for part in message["content"]]}


def _part(part: Any, base: Path) -> Any:
    match part:
        case {"type": "image_url", "image_url": {"url": picture}}:
            return {**part, "image_url": {**part["image_url"], "url": _picture(picture, base)}}
    return part


def _picture(value: Any, base: Path) -> Picture:
    """A path relative to the file of rows, a URL, or `{"bytes": ...}` as data sets store it."""
    match value:
        case str():
            return value if is_url(value) else base / value
        case {"bytes": bytes() as data}:
            return data
    raise InvalidInput(f"a picture is a path or a URL, not {type(value).__name__}", field="images")
