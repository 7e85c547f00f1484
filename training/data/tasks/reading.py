"""Questions about text in the picture: one written digit, in any place, size and ink."""

from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.data.scenes import SIDE_PX
from training.data.tasks.question import Question, pose

DIGITS = tuple("0123456789")


def render_digit(rng: Random, digit: str, side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    """Drawn at twice the size and shrunk, so that edges are soft; Pillow brings the font."""
    side = 2 * side_px
    paper, ink = (rng.randint(200, 255),) * 3, tuple(rng.randint(0, 90) for _ in range(3))
    picture = Image.new("RGB", (side, side), paper)
    font = ImageFont.load_default(rng.randint(side // 2, 5 * side // 7))
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = pen.textbbox((0, 0), digit, font=font)
    x, y = (side - left - right) / 2, (side - top - bottom) / 2
    shift = side // 11
    place = (x + rng.randint(-shift, shift), y + rng.randint(-shift, shift))
    pen.text(place, digit, font=font, fill=ink)
    return np.asarray(picture.resize((side_px, side_px), Image.Resampling.BICUBIC))


def ask_read(rng: Random) -> tuple[NDArray[np.uint8], Question]:
    digit, *others = rng.sample(DIGITS, 4)
    return render_digit(rng, digit), pose(
        rng,
        ("Which number is written in the picture?", "What number does the picture show?",
         "Read the number in the image."),
        ("The number is {}.", "It is {}.", "{}.", "The picture shows {}."),
        digit, others,
    )  # fmt: skip
