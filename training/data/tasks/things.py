"""Questions about things in the quarters of a picture."""

from collections.abc import Sequence
from itertools import combinations
from random import Random

from training.data.colours import BACKGROUNDS
from training.data.objects import HELD_OUT_PAIRS, OBJECTS, held_out, plural, with_article
from training.data.scenes import QUARTERS, Things
from training.data.tasks.question import NUMBERS, Question, Split, listing, pose, sentence

COUNT_PAIRS = ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 2))


def pick_kinds(rng: Random, count: int, split: Split) -> list[str]:
    """Different things: in training no pair that is kept apart, in evaluation one that is."""
    if split.held_out and count > 1:
        pair = rng.sample(rng.choice(HELD_OUT_PAIRS), 2)
        return pair + rng.sample([word for word in OBJECTS if word not in pair], count - 2)
    while True:
        kinds = rng.sample(OBJECTS, count)
        if not any(held_out(a, b) for a, b in combinations(kinds, 2)):
            return kinds


def swap_kind(rng: Random, kinds: Sequence[str], split: Split) -> list[str]:
    """One thing replaced by an absent one, the result as new (or as known) as the truth is."""
    while True:
        index, other = rng.randrange(len(kinds)), rng.choice(OBJECTS)
        swapped = [*kinds[:index], other, *kinds[index + 1 :]]
        meets = any(held_out(a, b) for a, b in combinations(swapped, 2))
        if other not in kinds and (meets == split.held_out or len(kinds) == 1):
            return swapped


def lay_out(rng: Random, words: Sequence[str], split: Split) -> Things:
    quarters: list[str | None] = [None] * 4
    for place, word in zip(rng.sample(range(4), len(words)), words, strict=True):
        quarters[place] = word
    seed, background = rng.getrandbits(31), rng.choice(BACKGROUNDS)
    return Things(tuple(quarters), background, seed, unseen=split.unseen)  # type: ignore[arg-type]


def ask_name(rng: Random, split: Split) -> tuple[Things, Question]:
    word, *others = rng.sample(OBJECTS, 4)
    scene = lay_out(rng, [word], split)
    if rng.random() < 0.5:
        scene = Things((word,) * 4, scene.background, scene.seed, large=True, unseen=split.unseen)
    return scene, pose(
        rng,
        ("What is in the picture?", "What is this?", "Name the object in the image.",
         "What does the picture show?", "What can you see in this image?"),
        ("It is {}.", "This is {}.", "{}.", "The picture shows {}.", "There is {} in the picture.",
         "I can see {}."),
        with_article(word), map(with_article, others),
    )  # fmt: skip


def ask_describe(rng: Random, split: Split) -> tuple[Things, Question]:
    kinds = pick_kinds(rng, rng.choice((1, 2)), split)
    scene = lay_out(rng, kinds, split)
    other = rng.choice([colour for colour in BACKGROUNDS if colour != scene.background])
    wrong = [(swap_kind(rng, kinds, split), scene.background) for _ in range(2)]
    wrong.append((kinds, other))

    def say(kinds: Sequence[str], colour: str) -> str:
        things = listing([with_article(word) for word in rng.sample(kinds, len(kinds))])
        return rng.choice((
            f"{things} on a {colour} background.",
            f"The picture shows {things} on a {colour} background.",
            f"There is {things}. The background is {colour}.",
        ))  # fmt: skip

    text = rng.choice(("Describe the picture.", "Describe this image.", "What do you see?"))
    answers = [sentence(say(*truth)) for truth in [(kinds, scene.background), *wrong]]
    return scene, Question(text, answers[0], tuple(answers[1:]))


def ask_where(rng: Random, split: Split) -> tuple[Things, Question]:
    scene = lay_out(rng, pick_kinds(rng, rng.choice((1, 2)), split), split)
    word = rng.choice(scene.words)
    place = QUARTERS[scene.quarters.index(word)]
    return scene, pose(
        rng,
        (f"Where is the {word}?", f"Where in the picture is the {word}?",
         f"In which corner is the {word}?"),
        ("It is at the {}.", f"The {word} is at the {{}}.", f"The {word} is in the {{}} corner."),
        place, [other for other in QUARTERS if other != place],
    )  # fmt: skip


def ask_side(rng: Random, split: Split) -> tuple[Things, Question]:
    scene = lay_out(rng, pick_kinds(rng, rng.choice((1, 2)), split), split)
    word = rng.choice(scene.words)
    sides = QUARTERS[scene.quarters.index(word)].split()
    choices = rng.choice((("left", "right"), ("top", "bottom")))
    right, wrong = sorted(choices, key=lambda side: side not in sides)
    return scene, pose(
        rng,
        (f"Is the {word} at the {choices[0]} or at the {choices[1]}?",
         f"On which side is the {word}, {choices[1]} or {choices[0]}?"),
        ("It is at the {}.", f"The {word} is at the {{}}.", "At the {}."),
        right, [wrong],
    )  # fmt: skip


def ask_background(rng: Random, split: Split) -> tuple[Things, Question]:
    scene = lay_out(rng, pick_kinds(rng, rng.choice((1, 2)), split), split)
    others = [colour for colour in BACKGROUNDS if colour != scene.background]
    return scene, pose(
        rng,
        ("What color is the background?", "Which color does the background have?",
         "What is the color of the background?"),
        ("The background is {}.", "It is {}.", "{}.", "The color of the background is {}."),
        scene.background, rng.sample(others, 3),
    )  # fmt: skip


def ask_list(rng: Random, split: Split) -> tuple[Things, Question]:
    kinds = pick_kinds(rng, rng.choice((2, 2, 3)), split)
    scene = lay_out(rng, kinds, split)

    def words(kinds: Sequence[str]) -> str:
        return listing([with_article(word) for word in rng.sample(kinds, len(kinds))])

    wrong = [swap_kind(rng, kinds, split) for _ in range(3)]
    return scene, pose(
        rng,
        ("Which objects are in the picture?", "List the objects in the image.",
         "What objects can you see?"),
        ("{}.", "The picture shows {}.", "There is {} in the picture.", "I can see {}."),
        words(kinds), map(words, wrong),
    )  # fmt: skip


def ask_exists(rng: Random, split: Split) -> tuple[Things, Question]:
    kinds = pick_kinds(rng, rng.choice((1, 2, 3)), split)
    scene = lay_out(rng, kinds, split)
    present = rng.random() < 0.5
    absent = [word for word in OBJECTS if word not in kinds]
    word = rng.choice(kinds if present else absent)
    thing = with_article(word)
    yes = rng.choice(("Yes.", f"Yes, there is {thing}.", f"Yes, there is {thing} in the picture."))
    no = rng.choice(("No.", f"No, there is no {word}.", f"No, there is no {word} in the picture."))
    text = rng.choice((f"Is there {thing} in the picture?", f"Can you see {thing}?",
                       f"Does the image show {thing}?"))  # fmt: skip
    right, wrong = (yes, no) if present else (no, yes)
    return scene, Question(text, right, (wrong,))


def amount(word: str, count: int) -> str:
    return f"{NUMBERS[count]} {word if count == 1 else plural(word)}"


def there_are(count: int, things: str) -> str:
    return f"there {'is' if count == 1 else 'are'} {things}"


def ask_count(rng: Random, split: Split) -> tuple[Things, Question]:
    count = rng.randint(1, 4)
    extra = rng.randint(0, min(2, 4 - count))
    kinds = pick_kinds(rng, 2, split) if extra else pick_kinds(rng, 1, split)
    word = kinds[0]
    scene = lay_out(rng, [word] * count + kinds[1:] * extra, split)
    right, *wrong = [there_are(n, amount(word, n)) for n in _first(count, (1, 2, 3, 4))]
    return scene, pose(
        rng,
        (f"How many {plural(word)} are in the picture?", f"How many {plural(word)} are there?",
         f"Count the {plural(word)}."),
        ("{}.", "{} in the picture.", "I think {}."),
        right, wrong,
    )  # fmt: skip


def _first(value: int, values: tuple[int, ...]) -> list[int]:
    return sorted(values, key=lambda other: other != value)


def ask_total(rng: Random, split: Split) -> tuple[Things, Question]:
    count = rng.randint(1, 4)
    kinds = pick_kinds(rng, rng.randint(1, min(3, count)), split)
    scene = lay_out(rng, kinds + rng.choices(kinds, k=count - len(kinds)), split)
    right, *wrong = [NUMBERS[n] for n in _first(count, (1, 2, 3, 4))]
    return scene, pose(
        rng,
        ("How many objects are in the picture?", "How many things can you see?",
         "Count all objects in the image."),
        ("The number of objects is {}.", "{}.", "I count {} in all."),
        right, wrong,
    )  # fmt: skip


def ask_sum(rng: Random, split: Split) -> tuple[Things, Question]:
    """The wrong chains add up too: only the picture tells which counts are true."""
    first, second = pick_kinds(rng, 2, split)
    counts, *others = rng.sample(COUNT_PAIRS, 4)
    scene = lay_out(rng, [first] * counts[0] + [second] * counts[1], split)

    def chain(counts: tuple[int, int]) -> str:
        a, b = counts
        things = f"{amount(first, a)} and {amount(second, b)}"
        return sentence(
            f"{there_are(a, things)}. {NUMBERS[a]} plus {NUMBERS[b]} is {NUMBERS[a + b]}."
        )

    first_many, second_many = plural(first), plural(second)
    text = rng.choice((f"How many {first_many} and {second_many} are there together?",
                       f"Add the number of {first_many} and of {second_many}."))  # fmt: skip
    return scene, Question(text, chain(counts), tuple(map(chain, others)))


def ask_more(rng: Random, split: Split) -> tuple[Things, Question]:
    kinds = pick_kinds(rng, 2, split)
    more, fewer = rng.sample(kinds, 2)
    scene = lay_out(rng, [more] * rng.choice((2, 3)) + [fewer], split)
    first, second = map(plural, kinds)
    return scene, pose(
        rng,
        (f"Are there more {first} or more {second}?",
         f"Which are more, the {second} or the {first}?"),
        ("There are more {}.", "More {}.", "I can see more {}."),
        plural(more), [plural(fewer)],
    )  # fmt: skip
