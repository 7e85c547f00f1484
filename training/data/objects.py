"""The things in the pictures: their words, their kinds, and which never meet in training."""

from itertools import combinations

KINDS: dict[str, tuple[str, ...]] = {
    "fruit": ("apple", "banana", "cherry", "grapes", "watermelon", "lemon", "pear", "pineapple"),
    "food": ("eggplant", "mushroom", "pizza", "burger", "fries"),
    "animal": ("frog", "pig", "panda", "fox", "penguin", "chick", "whale", "ladybug"),
    "plant": ("cactus", "sunflower", "palm"),
    "shape": ("ball", "star", "moon", "heart", "drop"),
    "tool": ("umbrella", "scissors", "bulb", "anchor"),
    "clothing": ("hat", "jeans"),
    "vehicle": ("car",),
}
OBJECTS: tuple[str, ...] = tuple(word for words in KINDS.values() for word in words)

_PLURALS = {"cherry": "cherries", "fox": "foxes", "cactus": "cactuses"}
_PAIRS = frozenset({"jeans", "scissors"})
_MASSES = frozenset({"grapes", "fries"})


def plural(word: str) -> str:
    return word if word in _PAIRS | _MASSES else _PLURALS.get(word, word + "s")


def with_article(word: str) -> str:
    """ "an apple", "a pear", "some grapes", "a pair of jeans"."""
    if word in _PAIRS:
        return f"a pair of {word}"
    if word in _MASSES:
        return f"some {word}"
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def held_out(first: str, second: str) -> bool:
    """Whether these two are kept apart in every training picture, the warm-up's included."""
    return first != second and (OBJECTS.index(first) + OBJECTS.index(second)) % 5 == 0


HELD_OUT_PAIRS: tuple[tuple[str, str], ...] = tuple(
    (a, b) for a, b in combinations(OBJECTS, 2) if held_out(a, b)
)
