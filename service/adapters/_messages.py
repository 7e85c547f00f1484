"""A trainer's prompt and pictures -> messages as the server reads them."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image as Pillow

# A URL or a file's path, its bytes, an opened picture, or a data set's {"bytes": ..., "path": ...}.
Picture: TypeAlias = str | Path | bytes | Pillow.Image | Mapping[str, Any]
Prompt: TypeAlias = str | Sequence[Mapping[str, Any]]
TAG = "<image>"
PLACE = object()
SCHEMES = ("data:", "sha256:", "http:", "https:")
KINDS = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"RIFF", "webp"))


def messages(prompt: Prompt, images: Sequence[Picture]) -> list[dict[str, Any]]:
    """The conversation with every picture in its place.

    `images` fill the prompt's empty image parts or `<image>` tags in order; where it has no picture
    at all, they go before the first user message's text. Raises ValueError when the numbers differ.
    """
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    read = [(turn["role"], list(_parts(turn.get("content"), bool(images)))) for turn in turns]
    every = [part for _, parts in read for part in parts]
    places = sum(part is PLACE for part in every)
    filled = sum(part is not PLACE and part["type"] == "image_url" for part in every)
    if not places and filled == len(images):
        images = ()  # some trainers fill the prompt and hand over the column as well
    elif not places and not filled:
        first = next(parts for role, parts in read if role == "user")
        first[:0] = [PLACE] * len(images)
    elif places != len(images):
        raise ValueError(f"the prompt has {places} places for pictures and {len(images)} came")
    rest = iter(images)
    return [
        {"role": role, "content": [image_part(next(rest)) if p is PLACE else p for p in parts]}
        for role, parts in read
    ]


def _parts(content: Any, tagged: bool) -> Iterator[Any]:
    if isinstance(content, str):
        yield from _text(content, tagged)
        return
    for part in content:
        match part:
            case {"type": "image", "image": picture} if picture is not None:
                yield image_part(picture)
            case {"type": "image"}:
                yield PLACE
            case {"type": "text", "text": str(text)}:
                yield from _text(text, tagged)
            case {"type": "image_url", "image_url": {"url": picture}}:
                yield image_part(picture)
            case _:
                raise ValueError(f"this adapter knows text and image parts, not {part!r:.80}")


def _text(text: str, tagged: bool) -> Iterator[Any]:
    # Without pictures a tag is what somebody typed.
    for number, piece in enumerate(text.split(TAG) if tagged else [text]):
        if number:
            yield PLACE
        if piece:
            yield {"type": "text", "text": piece}


def completion_text(completion: Any) -> str:
    """The answer of a plain or a conversational completion."""
    match completion:
        case str():
            return completion
        case [{"role": "assistant", "content": str(text)}]:
            return text
        case [{"role": "assistant", "content": [{"type": "text", "text": str(text)}]}]:
            return text
    raise ValueError(f"a completion is one text of the assistant, not {completion!r:.80}")


def image_part(picture: Picture) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": picture_url(picture)}}


def picture_url(picture: Picture) -> str:
    """A URL the server can open: the caller's own, else the picture's bytes as a data URL."""
    match picture:
        case str() if picture.lower().startswith(SCHEMES):
            return picture
        case str() | Path():
            return _data_url(Path(picture).read_bytes())
        case bytes():
            return _data_url(picture)
        case Pillow.Image():
            buffer = io.BytesIO()
            picture.convert("RGB").save(buffer, "PNG", compress_level=1)
            return _data_url(buffer.getvalue())
        case {"bytes": bytes(data)}:
            return _data_url(data)
        case {"path": str(path)}:
            return picture_url(path)
    raise TypeError(f"a picture is a URL, a path, bytes or a PIL image, not {picture!r:.80}")


def _data_url(data: bytes) -> str:
    kind = next((kind for magic, kind in KINDS if data.startswith(magic)), None)
    if kind is None:
        raise ValueError("a picture's bytes are no PNG, JPEG or WebP file")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
