"""The plain values everybody passes around: frozen, torch-free, importing nobody."""

import hashlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rm_core.errors import InvalidInput

Role: TypeAlias = Literal["system", "user", "assistant"]
Pixels: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True, eq=False, slots=True)
class Image:
    """A decoded picture: RGB `pixels` of shape (height, width, 3) and the digest it is known by."""

    pixels: Pixels
    digest: str

    def __post_init__(self) -> None:
        assert self.pixels.ndim == 3, self.pixels.shape
        assert self.pixels.shape[2] == 3, self.pixels.shape
        assert self.pixels.dtype == np.uint8, self.pixels.dtype

    @classmethod
    def from_pixels(cls, pixels: Pixels) -> "Image":
        """A picture that never was a file; its digest covers shape and pixels."""
        shape = repr(pixels.shape).encode()
        return cls(pixels, hashlib.sha256(shape + pixels.tobytes()).hexdigest())


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, eq=False, slots=True)
class ImagePart:
    image: Image


Part: TypeAlias = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class Turn:
    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Everything before the answer; the last turn is the user's."""

    turns: tuple[Turn, ...]

    def __post_init__(self) -> None:
        if not self.turns or self.turns[-1].role != "user":
            raise InvalidInput("the last message before the answer must be the user's")
        if any(turn.role == "system" for turn in self.turns[1:]):
            raise InvalidInput("a system message is allowed only in first place")

    @classmethod
    def ask(cls, question: str, *images: Image) -> "Conversation":
        """The common case: pictures, then a question, in one user turn."""
        pictures = tuple(ImagePart(image) for image in images)
        return cls((Turn("user", (*pictures, TextPart(question))),))

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(p.image for t in self.turns for p in t.parts if isinstance(p, ImagePart))


@dataclass(frozen=True, slots=True)
class ScoreGroup:
    """One prompt and the answers to score against it: the unit of serving and of training."""

    conversation: Conversation
    responses: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.responses:
            raise InvalidInput("at least one response is needed", field="responses")
        for index, response in enumerate(self.responses):
            if not response:
                raise InvalidInput("a response must not be empty", field=f"responses[{index}]")
