"""One answer to score and the prompt before it: what every foreign request is translated into."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from rm_core.errors import InvalidInput
from rm_core.types import Role, TextPart
from service import schemas
from service.compat.templated import Templated, parse
from service.errors import PictureMissing
from service.prepare import no_video


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture by its address; two are the same when their addresses are."""

    url: str
    field: str = field(compare=False)


Part: TypeAlias = TextPart | Picture


@dataclass(frozen=True, slots=True)
class Turn:
    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and one answer; `field` is where the caller wrote it."""

    turns: tuple[Turn, ...]
    answer: str
    field: str


@dataclass(frozen=True, slots=True)
class Group:
    """Questions that share a prompt, by their places in the request."""

    turns: tuple[Turn, ...]
    places: tuple[int, ...]


def grouped(questions: Sequence[Question]) -> list[Group]:
    """Each prompt once, in order of appearance: it is computed once for all its answers."""
    places: dict[tuple[Turn, ...], list[int]] = {}
    for place, question in enumerate(questions):
        places.setdefault(question.turns, []).append(place)
    return [Group(turns, tuple(found)) for turns, found in places.items()]


def picture_urls(questions: Sequence[Question]) -> Iterator[tuple[str, str]]:
    """(field, URL) of every picture, in order."""
    parts = (part for question in questions for turn in question.turns for part in turn.parts)
    return ((part.field, part.url) for part in parts if isinstance(part, Picture))


def from_text(
    text: str,
    field: str,
    *,
    prompt: str | None = None,
    pictures: Sequence[Picture] = (),
    remedy: str,
) -> Question:
    """A question from templated text; `pictures` go where its picture tokens are."""
    try:
        read = parse(text, prompt)
    except InvalidInput as error:
        raise at(error, field) from None
    if read.pictures and not pictures:
        message = f"{field} has picture tokens and no picture came with it; {remedy}"
        raise PictureMissing(message, field=field)
    if read.pictures != len(pictures):
        raise InvalidInput(
            f"{field} has room for {read.pictures} pictures and {len(pictures)} came with it",
            field=field,
        )
    return Question(tuple(_turns(read, iter(pictures))), read.answer, field)


def _turns(read: Templated, pictures: Iterator[Picture]) -> Iterator[Turn]:
    for turn in read.turns:
        parts: list[Part] = []
        for number, text in enumerate(turn.texts):
            if number:
                parts.append(next(pictures))
            if text:
                parts.append(TextPart(text))
        yield Turn(turn.role, tuple(parts))


def from_messages(messages: Sequence[schemas.Message], field: str = "messages") -> Question:
    """A question from a conversation whose last message is the answer."""
    last = len(messages) - 1
    where = f"{field}[{last}]"
    if messages[last].role != "assistant":
        raise InvalidInput(
            f"{where}: the last message must be the assistant's; it is what is scored", field=where
        )
    turns = [
        Turn(message.role, parts(message.content, f"{field}[{i}].content"))
        for i, message in enumerate(messages[:last])
    ]
    return Question(tuple(turns), plain_text(messages[last].content, f"{where}.content"), where)


def parts(content: str | list[schemas.Part], field: str) -> tuple[Part, ...]:
    """Content as it is in the native schema, as hashable parts."""
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(_part(part, f"{field}[{i}]") for i, part in enumerate(content))


def _part(part: schemas.Part, field: str) -> Part:
    match part:
        case schemas.TextContent(text=text):
            return TextPart(text)
        case schemas.ImageContent(image_url=address):
            return Picture(address.url, f"{field}.image_url.url")
        case schemas.VideoContent():
            raise no_video(f"{field}.video_url")


def plain_text(content: str | list[schemas.Part], field: str) -> str:
    """The text of an answer, which holds nothing else."""
    found = parts(content, field)
    for i, part in enumerate(found):
        if isinstance(part, Picture):
            where = f"{field}[{i}]"
            raise InvalidInput(
                f"{where}: an answer is text; a picture belongs to the question", field=where
            )
    return "".join(part.text for part in found if isinstance(part, TextPart))


def at(error: InvalidInput, field: str) -> InvalidInput:
    """The same error, saying which item of the request it is about."""
    error.field, error.message = field, f"{field}: {error.message}"
    return error
