"""The requests: real photographs and real text, the same for every peer, none sent twice.

Sides of a picture are multiples of 28 within the model's budget, so that no peer resizes: whose
resize it is would move scores and is not what is compared. Text is cut from the documentation
strings of Python's standard library.
"""

import inspect
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from random import Random

from PIL import Image
from tokenizers import Tokenizer

# Photographs that scikit-image's wheel carries (its licence file names each one's).
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
SIDES = range(8 * 28, 14 * 28 + 1, 28)
MODULES = (
    *("argparse", "asyncio", "collections", "datetime", "decimal", "email", "http", "json"),
    *("logging", "pathlib", "random", "statistics", "string", "tarfile", "threading"),
)


@dataclass(frozen=True)
class Item:
    """One prompt, with or without a picture (JPEG bytes), and its answers."""

    picture: bytes | None
    size: tuple[int, int]
    question: str
    answers: tuple[str, ...]


class Material:
    """Crops and passages drawn by one seeded generator."""

    def __init__(self, photographs: Path, tokenizer: Tokenizer, seed: int) -> None:
        self._chance = Random(seed)
        self._photographs = [Image.open(photographs / n).convert("RGB") for n in PHOTOGRAPHS]
        self._tokenizer = tokenizer
        self._ids: list[int] = tokenizer.encode(standard_library_text()).ids

    def picture(self) -> tuple[bytes, tuple[int, int]]:
        photograph = self._chance.choice(self._photographs)
        width = self._chance.choice([s for s in SIDES if s <= photograph.width])
        height = self._chance.choice([s for s in SIDES if s <= photograph.height])
        left = self._chance.randint(0, photograph.width - width)
        top = self._chance.randint(0, photograph.height - height)
        buffer = io.BytesIO()
        photograph.crop((left, top, left + width, top + height)).save(buffer, "JPEG", quality=90)
        return buffer.getvalue(), (width, height)

    def text(self, least: int, most: int) -> str:
        """A passage of `least` to `most` tokens."""
        length = self._chance.randint(least, most)
        start = self._chance.randint(0, len(self._ids) - length)
        return str(self._tokenizer.decode(self._ids[start : start + length]))


def one_picture(material: Material) -> Iterator[Item]:
    while True:
        yield Item(*material.picture(), material.text(8, 30), (material.text(10, 80),))


def eight_answers(material: Material) -> Iterator[Item]:
    while True:
        answers = tuple(material.text(10, 80) for _ in range(8))
        yield Item(*material.picture(), material.text(8, 30), answers)


def text_only(material: Material) -> Iterator[Item]:
    while True:
        answer = material.text(20, 560)
        yield Item(None, (0, 0), material.text(10, 220), (answer,))


def asked_often(material: Material) -> Iterator[Item]:
    """Four pictures in turn, sixteen questions each; then four others."""
    while True:
        pictures = [material.picture() for _ in range(4)]
        for number in range(64):
            yield Item(*pictures[number % 4], material.text(8, 30), (material.text(10, 80),))


@dataclass(frozen=True)
class Workload:
    title: str
    items: Callable[[Material], Iterator[Item]]
    answers: int = 1


WORKLOADS = {
    "W1": Workload("one picture, one question, one answer", one_picture),
    "W2": Workload("one picture, one question, eight answers", eight_answers, answers=8),
    "W3": Workload("text of 50 to 800 tokens", text_only),
    "W4": Workload("four pictures asked about 64 times", asked_often),
}


def draw(name: str, count: int, photographs: Path, tokenizer: Tokenizer) -> Sequence[Item]:
    """The first `count` requests of a workload; the same for the same name."""
    material = Material(photographs, tokenizer, seed=list(WORKLOADS).index(name))
    return list(islice(WORKLOADS[name].items(material), count))


def standard_library_text() -> str:
    """Documentation strings of the standard library of the Python that runs."""
    passages = []
    for module in map(import_module, MODULES):
        members = [value for name, value in sorted(vars(module).items()) if name[0] != "_"]
        passages += [text for text in map(inspect.getdoc, (module, *members)) if text]
    return "\n\n".join(dict.fromkeys(passages))
