"""What a caller asks -> one request body, and the pictures it names."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from rm_core.errors import InvalidInput
from service.client.pictures import Picture, Pictures
from service.schemas import CompareResponse, RankResponse, ScoreResponse

# A question, or messages as on the wire, in which `image_url.url` may be any Picture.
Prompt: TypeAlias = str | Sequence[Mapping[str, Any]]
Answer = TypeVar("Answer", ScoreResponse, CompareResponse, RankResponse)


@dataclass(frozen=True, slots=True)
class Asked(Generic[Answer]):
    """A body ready to be sent, what must be uploaded before, and what comes back."""

    route: str
    body: bytes
    uploads: Mapping[str, bytes]
    answer: type[Answer]
    num_responses: int


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and its pictures, before anything is read or encoded."""

    prompt: Prompt
    images: Sequence[Picture] = ()
    upload: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.images, str | bytes) or not isinstance(self.images, Sequence):
            raise InvalidInput("images is a list of pictures, also when there is one")
        if not isinstance(self.prompt, str) and self.images:
            raise InvalidInput("with messages, pictures go into the messages", field="images")

    @property
    def holds_pictures(self) -> bool:
        """Whether files may be read and pixels encoded, which belongs off an event loop."""
        return bool(self.images) or not isinstance(self.prompt, str)

    def score(self, responses: Sequence[str]) -> Asked[ScoreResponse]:
        return self._asked("/score", {"responses": _texts(responses)}, ScoreResponse)

    def compare(self, response_a: str, response_b: str) -> Asked[CompareResponse]:
        rest = {"response_a": response_a, "response_b": response_b}
        return self._asked("/compare", rest, CompareResponse)

    def rank(self, responses: Sequence[str]) -> Asked[RankResponse]:
        return self._asked("/rank", {"responses": _texts(responses)}, RankResponse)

    def _asked(self, route: str, rest: dict[str, Any], answer: type[Answer]) -> Asked[Answer]:
        pictures = Pictures(upload=self.upload)
        try:
            body = json.dumps({**self._fields(pictures), **rest}, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"the request cannot be written as JSON: {error}") from error
        return Asked(route, body, pictures.uploads, answer, len(rest.get("responses", "ab")))

    def _fields(self, pictures: Pictures) -> dict[str, Any]:
        if not isinstance(self.prompt, str):
            return {"messages": [_message(message, pictures) for message in self.prompt]}
        return {"prompt": self.prompt, "images": [pictures.address(one) for one in self.images]}


def _texts(responses: Sequence[str]) -> list[str]:
    if isinstance(responses, str) or not isinstance(responses, Sequence):
        raise InvalidInput("responses is a list of texts, also when there is one")
    return list(responses)


def _message(message: Mapping[str, Any], pictures: Pictures) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, str) or not isinstance(content, Sequence):
        return dict(message)  # the server names what is wrong with it
    return {**message, "content": [_part(part, pictures) for part in content]}


def _part(part: Any, pictures: Pictures) -> Any:
    match part:
        case {"type": "image_url", "image_url": {"url": picture}}:
            return {**part, "image_url": {**part["image_url"], "url": pictures.address(picture)}}
    return part
