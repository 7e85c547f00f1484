"""Groups of given lengths, made of random tokens and pixels: no tokenizer, no pictures on disk."""

import math
from dataclasses import dataclass

import numpy as np

from rm_core.encode import Cut, EncodedGroup
from rm_core.images import EncodedImage
from rm_core.positions import after_image, image_positions, join, text_positions

MERGE = 2
PATCH = 3 * 2 * 14 * 14


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of group: tokens of picture, question and each answer."""

    image: int
    question: int
    answer: int
    answers: int = 1


# One answer each, but for the last ones: what sharing the prompt is worth.
WORKLOADS: dict[str, tuple[Shape, ...]] = {
    "text of 50 to 800 tokens": tuple(Shape(0, n // 2, n // 2) for n in (50, 100, 200, 400, 800)),
    "picture 1280 + 100, answer 300": (Shape(1280, 100, 300),),
    **{f"1280 + 100, {n} answers of 300": (Shape(1280, 100, 300, n),) for n in (2, 8, 32)},
}


def groups(shapes: tuple[Shape, ...], tokens: int, pad_id: int, seed: int) -> list[EncodedGroup]:
    """At least one of each shape, and more in turn while they fit `tokens`."""
    rng = np.random.default_rng(seed)
    made: list[EncodedGroup] = []
    while len(made) < len(shapes) or sum(g.num_tokens for g in made) < tokens:
        made.append(group(shapes[len(made) % len(shapes)], pad_id, rng))
    return made[:-1] if len(made) > len(shapes) else made


def group(shape: Shape, pad_id: int, rng: np.random.Generator) -> EncodedGroup:
    def text(length: int) -> np.ndarray:
        return rng.integers(20, 8000, length)

    picture = image(shape.image, rng)
    grid = picture.grid_thw if picture else (1, 0, 0)
    start = after_image(0, grid, MERGE)
    placed = [image_positions(0, grid, MERGE)] if picture else []
    prefix = np.concatenate([np.full(shape.image, pad_id), text(shape.question)])
    return EncodedGroup(
        prefix_ids_P=prefix,
        prefix_positions_3P=join([*placed, text_positions(start, shape.question)]),
        answer_ids=tuple(text(shape.answer) for _ in range(shape.answers)),
        answers_start=start + shape.question,
        images=(picture,) if picture else (),
        image_tokens=shape.image,
        cuts=(Cut(len(prefix), 1 if picture else 0),),
    )


def image(tokens: int, rng: np.random.Generator) -> EncodedImage | None:
    """A picture of nearly square shape with exactly so many merged tokens; None for none."""
    if not tokens:
        return None
    rows = next(n for n in range(math.isqrt(tokens), 0, -1) if tokens % n == 0)
    grid = (1, MERGE * rows, MERGE * (tokens // rows))
    patches = rng.integers(0, 256, (math.prod(grid), PATCH), dtype=np.uint8)
    return EncodedImage(patches, grid, f"picture-{rng.integers(1 << 60)}")
