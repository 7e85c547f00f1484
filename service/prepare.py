"""Request body -> ScoreGroup -> EncodedGroup, in threads, off the event loop."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from rm_core.errors import RewardError, TooManyPixels
from rm_core.images import decode
from rm_core.types import Conversation, Image, ImagePart, Part, ScoreGroup, TextPart, Turn
from service import schemas
from service.errors import NotSupported, TextTooLong, TooManyImages, TooManyResponses
from service.fetch import Fetcher
from service.media import ImageStore, picture_bytes, picture_urls, web_urls
from service.settings import Settings
from service.trace import Trace

if TYPE_CHECKING:
    from rm_core.encode import EncodedGroup

T = TypeVar("T")
Encode = Callable[[ScoreGroup], "EncodedGroup"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An encoded group, and the place in it of each answer the caller sent."""

    group: "EncodedGroup"
    places: tuple[int, ...]
    fetch_s: float


class Preparer:
    """A sized pool of threads: pictures and tokens never hold up the event loop."""

    def __init__(
        self,
        encode: Encode,
        store: ImageStore,
        settings: Settings,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._encode, self._store, self._settings = encode, store, settings
        self._fetcher = fetcher
        self._pool = ThreadPoolExecutor(settings.prepare_threads, thread_name_prefix="prepare")

    async def run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def prepare(
        self, body: schemas.AnyRequest, trace: Trace, deadline: float = math.inf
    ) -> Prepared:
        """The encoded group, or an error that names the field to change."""
        refuse_too_many(body, self._settings)
        fetched = await self.fetch(web_urls(picture_urls(body)), trace, deadline)
        with trace.stage("prepare"):
            prepared = await self.run(lambda: self._prepared(body, fetched))
        trace.add("fetch", prepared.fetch_s)
        trace.add("prepare", -prepared.fetch_s)
        return prepared

    async def fetch(
        self, fields: Mapping[str, str], trace: Trace, deadline: float
    ) -> Mapping[str, bytes]:
        """The pictures behind URLs, where this server fetches any; `fields` says who asks."""
        with trace.stage("fetch"):
            return await self._fetcher.fetch(fields, deadline) if self._fetcher and fields else {}

    def _prepared(self, body: schemas.AnyRequest, fetched: Mapping[str, bytes]) -> Prepared:
        pictures = Pictures(self._store, self._settings, fetched)
        # Each text once and always in the same order: rounding depends on the place in a batch,
        # and equal answers must tie exactly, swapped ones negate their margin exactly.
        answers = sorted(set(body.answers))
        group = self._encode(ScoreGroup(conversation(body, pictures), tuple(answers)))
        place = {answer: i for i, answer in enumerate(answers)}
        return Prepared(group, tuple(place[answer] for answer in body.answers), pictures.fetch_s)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Pictures:
    """Opens the pictures of one request, under one pixel budget for all of them."""

    def __init__(self, store: ImageStore, settings: Settings, fetched: Mapping[str, bytes]) -> None:
        self._store, self._fetched = store, fetched
        self._each = settings.max_image_pixels
        self._all = self._left = settings.max_request_pixels
        self.fetch_s = 0.0

    def open(self, url: str, field: str) -> Image:
        try:
            started = time.monotonic()
            data = picture_bytes(url, self._store, self._fetched)
            self.fetch_s += time.monotonic() - started
            image = decode(data, max_pixels=self._each)
            self._spend(image.pixels.shape[0] * image.pixels.shape[1])
        except RewardError as error:
            error.field = error.field or field
            raise
        return image

    def _spend(self, pixels: int) -> None:
        if pixels > self._left:
            raise TooManyPixels(
                f"the pictures of this request have more than {self._all} pixels together "
                "(max_request_pixels); send fewer or smaller ones"
            )
        self._left -= pixels


def conversation(body: schemas.Prompt, pictures: Pictures) -> Conversation:
    """Both forms of a prompt become the same turns."""
    if body.videos:
        raise no_video("videos")
    if body.messages is None:
        images = [pictures.open(url, f"images[{i}]") for i, url in enumerate(body.images)]
        return Conversation.ask(body.prompt or "", *images)
    turns = [
        _turn(message, f"messages[{i}].content", pictures)
        for i, message in enumerate(body.messages)
    ]
    return Conversation(tuple(turns))


def _turn(message: schemas.Message, field: str, pictures: Pictures) -> Turn:
    if isinstance(message.content, str):
        return Turn(message.role, (TextPart(message.content),))
    parts = [_part(part, f"{field}[{i}]", pictures) for i, part in enumerate(message.content)]
    return Turn(message.role, tuple(parts))


def _part(part: schemas.Part, field: str, pictures: Pictures) -> Part:
    match part:
        case schemas.TextContent(text=text):
            return TextPart(text)
        case schemas.ImageContent(image_url=address):
            return ImagePart(pictures.open(address.url, f"{field}.image_url.url"))
        case schemas.VideoContent():
            raise no_video(f"{field}.video_url")


def no_video(field: str) -> NotSupported:
    return NotSupported("video is not supported yet; send single pictures of it", field=field)


def refuse_too_many(body: schemas.AnyRequest, settings: Settings) -> None:
    """Counts are checked before any thread is kept busy."""
    answers = body.answers
    if len(answers) > settings.max_responses:
        raise TooManyResponses(
            f"{len(answers)} responses in one request; the limit is {settings.max_responses}. "
            "Split them over several requests.",
            field="responses",
        )
    texts, pictures = texts_and_pictures(body)
    if pictures > settings.max_images:
        raise TooManyImages(
            f"{pictures} pictures in one request; the limit is {settings.max_images}",
            field="images" if body.messages is None else "messages",
        )
    if (chars := sum(map(len, texts)) + sum(map(len, answers))) > settings.max_text_chars:
        raise TextTooLong(
            f"the texts have {chars} characters; this server reads {settings.max_text_chars}. "
            "Nothing is truncated: shorten them."
        )


def texts_and_pictures(body: schemas.Prompt) -> tuple[list[str], int]:
    """Every text of the prompt, and how many pictures it has."""
    if body.messages is None:
        return [body.prompt or ""], len(body.images)
    contents = [message.content for message in body.messages]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    texts = [content for content in contents if isinstance(content, str)]
    texts += [part.text for part in parts if isinstance(part, schemas.TextContent)]
    return texts, sum(isinstance(part, schemas.ImageContent) for part in parts)
