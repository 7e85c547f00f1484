"""easy-VQA's pictures, asked so that its wordings no longer give the answer away.

As published, a blind model answers 73 % of it: "is there not ..." is mostly yes. Here the same
pictures get the same kinds of question with every answer equally often right and wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.scenes import SIDE_PX
from training.data.tasks.question import Question, Split, pose

SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("red", "green", "blue", "yellow", "teal", "black", "gray", "brown")


@dataclass(frozen=True)
class Shape:
    shape: str
    colour: str
    path: str


@cache
def published(split: Literal["train", "test"]) -> tuple[Shape, ...]:
    """The pictures whose shape and colour the published answers give away."""
    import easy_vqa

    train = split == "train"
    questions = easy_vqa.get_train_questions() if train else easy_vqa.get_test_questions()
    paths = easy_vqa.get_train_image_paths() if train else easy_vqa.get_test_image_paths()
    known: dict[int, set[str]] = {}
    for _, answer, index in zip(*questions, strict=True):
        known.setdefault(index, set()).add(answer)
    found = (
        (next(iter(words & set(SHAPES)), ""), next(iter(words & set(COLOURS)), ""), paths[index])
        for index, words in sorted(known.items())
    )
    return tuple(Shape(*row) for row in found if row[0] and row[1])


def draw_shape(rng: Random, split: Split) -> Shape:
    """To measure with, each shape equally often: of the published pictures 38 % are rectangles,
    and a model that does not look would be right more often than not."""
    if not split.held_out:
        return rng.choice(published("train"))
    kind = rng.choice(SHAPES)
    return rng.choice([shape for shape in published("test") if shape.shape == kind])


@cache
def _pixels(path: str, side_px: int) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        small = picture.convert("RGB").resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.asarray(small)


def render_shape(shape: Shape, rng: Random, side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    """The published picture, mirrored half of the time, under slightly different light."""
    pixels = _pixels(shape.path, side_px)[:, :: rng.choice((1, -1))]
    relit = pixels * rng.uniform(0.92, 1.04) + rng.uniform(-5, 5)
    shaded: NDArray[np.uint8] = np.clip(relit, 0, 255).astype(np.uint8)
    return shaded


def ask_shape_name(rng: Random, shape: Shape) -> Question:
    return pose(
        rng,
        ("What shape is in the image?", "What shape is present?",
         "What shape does the image contain?"),
        ("It is a {}.", "The shape is a {}.", "A {}.", "The image contains a {}."),
        shape.shape, [other for other in SHAPES if other != shape.shape],
    )  # fmt: skip


def ask_shape_colour(rng: Random, shape: Shape) -> Question:
    others = [colour for colour in COLOURS if colour != shape.colour]
    return pose(
        rng,
        ("What color is the shape?", "What is the color of the shape?",
         f"What color is the {shape.shape}?"),
        ("It is {}.", "The shape is {}.", "{}.", "The color is {}."),
        shape.colour, rng.sample(others, 3),
    )  # fmt: skip


def ask_shape_exists(rng: Random, shape: Shape) -> Question:
    words = _pick(rng, shape.shape, SHAPES) if rng.random() < 0.5 else None
    thing, present = words or _pick(rng, shape.colour, COLOURS)
    noun = f"{thing} shape" if words is None else thing
    wordings = (
        f"Is there a {noun}?",
        f"Is a {noun} present?",
        f"Is there a {noun} in the image?",
        f"Does the image contain a {noun}?",
    )
    yes = rng.choice(("Yes.", f"Yes, there is a {noun}.", f"Yes, the image contains a {noun}."))
    no = rng.choice(("No.", f"No, there is no {noun}.", f"No, the image contains no {noun}."))
    right, wrong = (yes, no) if present else (no, yes)
    return Question(rng.choice(wordings), right, (wrong,))


def _pick(rng: Random, truth: str, words: Sequence[str]) -> tuple[str, bool]:
    """The true word half of the time, else another one."""
    if rng.random() < 0.5:
        return truth, True
    return rng.choice([word for word in words if word != truth]), False
