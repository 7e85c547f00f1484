"""A question with its answers, before it is put to a picture; and the words all tasks share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Split:
    """Which side of the held-out lines a scene is drawn from."""

    held_out: bool = False  # object combinations and operand pairs that training never shows
    unseen: bool = False  # drawings by the vendor that training never shows


TRAIN = Split()
KNOWN = Split(held_out=True)
UNSEEN = Split(held_out=True, unseen=True)


@dataclass(frozen=True)
class Question:
    text: str
    chosen: str
    rejected: tuple[str, ...]


def pose(
    rng: Random,
    wordings: Sequence[str],
    answers: Sequence[str],
    right: str,
    wrong: Iterable[str],
) -> Question:
    """Each answer draws its own wording, so that wording never tells right from wrong."""

    def say(value: str) -> str:
        return sentence(rng.choice(answers).format(value))

    return Question(rng.choice(wordings), say(right), tuple(say(value) for value in wrong))


def sentence(text: str) -> str:
    """Capitals where sentences start."""
    return ". ".join(part[:1].upper() + part[1:] for part in text.split(". "))


def listing(words: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
