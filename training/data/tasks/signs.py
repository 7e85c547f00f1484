"""Questions about text in the picture: a sign with one word, in several fonts and cases."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import font_caladea
import font_source_sans_pro
import font_source_serif_pro
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.data.colours import BACKGROUNDS, draw_colour
from training.data.scenes import SIDE_PX, paint_background, photograph
from training.data.tasks.question import Question, Split, pose

WORDS = ("bank", "cafe", "exit", "hotel", "open", "park", "pull", "push", "sale", "shop", "stop",
         "taxi")  # fmt: skip
FONTS = tuple(
    Path(package.font_directory) / f"{name}.ttf"
    for package, names in (
        (font_source_sans_pro, ("SourceSansPro-Regular", "SourceSansPro-Bold")),
        (font_source_serif_pro, ("SourceSerifPro-Semibold", "SourceSerifPro-Bold")),
        (font_caladea, ("Caladea-Regular", "Caladea-Bold")),
    )
    for name in names
)
OVERSIZE = 3  # letters are drawn this much larger, then turned and shrunk: soft edges


@dataclass(frozen=True)
class Sign:
    word: str
    paper: str
    seed: int
    unseen: bool = False  # in the font that training never sees


def draw_sign(rng: Random, split: Split) -> Sign:
    return Sign(rng.choice(WORDS), rng.choice(BACKGROUNDS), rng.getrandbits(31), split.unseen)


def render_sign(sign: Sign, side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    rng = Random(sign.seed)
    canvas = paint_background(rng, sign.paper, side_px)
    letters = _letters(rng, sign, side_px)[..., None]
    ink = draw_colour(rng, "white" if canvas.mean() < 128 else "black")
    return photograph(rng, canvas * (1 - letters) + ink * letters)


def _letters(rng: Random, sign: Sign, side_px: int) -> NDArray[np.float32]:
    """How much of each pixel is ink, (side, side), 0..1: the word turned, scaled and moved."""
    text = rng.choice((sign.word, sign.word.upper(), sign.word.capitalize()))
    side = side_px * OVERSIZE
    width = side * rng.uniform(0.78, 0.96)
    font = _font(sign.unseen, rng)
    font = font.font_variant(size=font.size * width / font.getlength(text))
    x = side / 2 + rng.uniform(-0.4, 0.4) * (side - width)
    y = side / 2 + rng.uniform(-0.2, 0.2) * side
    page = Image.new("L", (side, side))
    ImageDraw.Draw(page).text((x, y), text, fill=255, font=font, anchor="mm")
    turned = page.rotate(rng.gauss(0, 4), Image.Resampling.BILINEAR)
    shrunk = np.asarray(turned.resize((side_px, side_px), Image.Resampling.BOX))
    return shrunk.astype(np.float32) / np.float32(255)


def _font(unseen: bool, rng: Random) -> ImageFont.FreeTypeFont:
    return _built_in() if unseen else _load(rng.choice(FONTS))


@cache
def _built_in() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(40)  # Pillow's own: Aileron
    assert isinstance(font, ImageFont.FreeTypeFont), "this Pillow was built without FreeType"
    return font


@cache
def _load(path: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, 40)


def ask_read(rng: Random, sign: Sign) -> Question:
    others = [word for word in WORDS if word != sign.word]
    return pose(
        rng,
        ("What does the sign say?", "Which word is written in the picture?",
         "Read the word in the image."),
        ("The sign says {}.", "It says {}.", "{}.", "The word is {}."),
        sign.word, rng.sample(others, 3),
    )  # fmt: skip
