"""Questions without a picture: sums, facts about the things, instructions to follow."""

from collections import Counter
from random import Random

from training.data.objects import KINDS, OBJECTS, plural, with_article
from training.data.tasks.question import NUMBERS, Question, Split, pose, sentence

LARGEST_OPERAND = 20
FARTHEST_WRONG_SUM = 9
KIND_OF = {word: kind for kind, words in KINDS.items() for word in words}


def _held_out_operands() -> frozenset[tuple[int, int]]:
    """A fifth of the pairs, by lot; every sum keeps a pair that training shows as right.

    Not by a rule: one on a + b makes every held-out right answer a wrong one in training, and
    (7a + 3b) % 5 holds out all doubles.
    """
    pairs = [(a, b) for b in range(LARGEST_OPERAND + 1) for a in range(b + 1)]
    kept_for = Counter(a + b for a, b in pairs)
    held: set[tuple[int, int]] = set()
    for a, b in Random("operands").sample(pairs, len(pairs)):
        if len(held) < len(pairs) // 5 and kept_for[a + b] > 2:
            held.add((a, b))
            kept_for[a + b] -= 1
    return frozenset(held)


HELD_OUT_OPERANDS = _held_out_operands()


def held_out_operands(a: int, b: int) -> bool:
    """Kept for evaluation, whichever comes first."""
    return (min(a, b), max(a, b)) in HELD_OUT_OPERANDS


def ask_add(rng: Random, split: Split) -> Question:
    while True:
        a, b = rng.randint(0, LARGEST_OPERAND), rng.randint(0, LARGEST_OPERAND)
        if held_out_operands(a, b) == split.held_out:
            break
    low, high = max(0, a + b - FARTHEST_WRONG_SUM), a + b + FARTHEST_WRONG_SUM
    near = [value for value in range(low, high + 1) if value != a + b]
    return pose(
        rng,
        (f"What is {a} + {b}?", f"{a} + {b} =", f"Calculate {a} + {b}.", f"Add {a} and {b}."),
        ("{}", "It is {}", f"{a} + {b} = {{}}", "The sum is {}"),
        f"{a + b}.", [f"{value}." for value in rng.sample(near, 3)],
    )  # fmt: skip


def ask_category(rng: Random, split: Split) -> Question:  # noqa: ARG001  every task is asked for a split
    word = rng.choice(OBJECTS)
    others = [kind for kind in KINDS if kind not in (KIND_OF[word], "food")]
    kind = KIND_OF[word]
    return pose(
        rng,
        (f"What kind of thing is {with_article(word)}?",
         f"Which category does the word {word} belong to?",
         f"What is {with_article(word)}?"),
        ("It belongs to the category {}.", "The category is {}.", "The kind is {}."),
        kind, rng.sample(others, 3),
    )  # fmt: skip


def ask_repeat(rng: Random, split: Split) -> Question:  # noqa: ARG001
    word, count = rng.choice(OBJECTS), rng.randint(1, 4)
    wrong = [n for n in (1, 2, 3, 4) if n != count]

    def say(n: int) -> str:
        return sentence(" ".join([word] * n)) + "."

    times = f"{NUMBERS[count]} time{'s' if count > 1 else ''}"
    text = rng.choice((f"Write the word {word} {times}.", f"Repeat the word {word} {times}.",
                       f"Say {word} {times}."))  # fmt: skip
    return Question(text, say(count), tuple(map(say, wrong)))


def ask_follow(rng: Random, split: Split) -> Question:  # noqa: ARG001
    word, *others = rng.sample(OBJECTS, 4)
    return pose(
        rng,
        (f"Answer with the word {word}.", f"Say the word {word}.",
         f"Write a sentence about {plural(word)}.",
         f"Name {with_article(word)}."),
        ("The word is {}.", "I say {}.", "This is about the {}.", "{}."),
        word, others,
    )  # fmt: skip


def ask_larger(rng: Random, split: Split) -> Question:
    while True:
        a, b = rng.sample(range(LARGEST_OPERAND + 1), 2)
        if held_out_operands(a, b) == split.held_out:
            break
    return pose(
        rng,
        (f"Which number is larger, {a} or {b}?", f"Which is the larger number: {a} or {b}?"),
        ("{} is larger.", "The larger number is {}.", "It is {}."),
        str(max(a, b)), [str(min(a, b))],
    )  # fmt: skip
