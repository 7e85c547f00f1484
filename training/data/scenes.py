"""Scenes drawn from the vendored pictures, with everything about them that a question may ask.

A scene is a plan first (frozen, no pixels) and pixels after `render_...`, so that generators can
balance what is asked before anything is drawn. The drawing's randomness is the scene's seed.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from training.data.atlas import UNSEEN_VENDOR, sprites, vendors_of
from training.data.colours import draw_colour

SIDE_PX = 56
Canvas: TypeAlias = NDArray[np.float32]  # (side, side, 3), 0..255
QUARTERS = ("top left", "top right", "bottom left", "bottom right")


@dataclass(frozen=True)
class Things:
    """Up to four things, one to a quarter; `large` is one thing over the whole picture."""

    quarters: tuple[str | None, str | None, str | None, str | None]
    background: str
    seed: int
    large: bool = False
    unseen: bool = False  # drawn by the vendor that training never sees

    @property
    def words(self) -> tuple[str, ...]:
        """The things in reading order, one entry for each copy."""
        present = tuple(word for word in self.quarters if word)
        return present[:1] if self.large else present

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.words))


@dataclass(frozen=True)
class Bars:
    """A bar chart: colours from left to right and heights as shares of the picture."""

    colours: tuple[str, ...]
    heights: tuple[float, ...]
    seed: int

    @property
    def tallest(self) -> str:
        return self.colours[self.heights.index(max(self.heights))]

    @property
    def shortest(self) -> str:
        return self.colours[self.heights.index(min(self.heights))]


def render_things(scene: Things, side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    rng = Random(scene.seed)
    canvas = paint_background(rng, scene.background, side_px)
    if scene.large:
        _paste(rng, canvas, _sprite(rng, scene, scene.words[0], side_px), 0, 0)
    else:
        half = side_px // 2
        for quarter, word in enumerate(scene.quarters):
            if word:
                sprite = _sprite(rng, scene, word, half)
                _paste(rng, canvas, sprite, quarter % 2 * half, quarter // 2 * half)
    return photograph(rng, canvas)


def render_bars(chart: Bars, side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    rng = Random(chart.seed)
    canvas = paint_background(rng, "white", side_px)
    slot = side_px / len(chart.colours)
    base = round(side_px * rng.uniform(0.92, 1.0))
    for index, (colour, height) in enumerate(zip(chart.colours, chart.heights, strict=True)):
        gap = slot * rng.uniform(0.08, 0.2)
        left, right = round(index * slot + gap), round((index + 1) * slot - gap)
        canvas[round(base - height * base) : base, left:right] = draw_colour(rng, colour)
    canvas[base : base + max(1, side_px // 56)] = 60
    return photograph(rng, canvas)


def paint_background(rng: Random, colour: str, side_px: int) -> Canvas:
    """One colour, shaded a little across, sometimes with two tones of the same word."""
    canvas = np.empty((side_px, side_px, 3), np.float32)
    canvas[:] = draw_colour(rng, colour)
    if rng.random() < 0.3:
        canvas[round(side_px * rng.uniform(0.4, 0.8)) :] = draw_colour(rng, colour)
    return canvas * _shading(rng, side_px, 0.08)[..., None]


def _shading(rng: Random, side_px: int, strength: float) -> NDArray[np.float32]:
    """A plane of light around 1 that falls off in one direction."""
    angle, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0, strength)
    steps = np.linspace(-1, 1, side_px, dtype=np.float32)
    plane: NDArray[np.float32] = steps * math.cos(angle) + steps[:, None] * math.sin(angle)
    return 1 + depth * plane


def _sprite(rng: Random, scene: Things, word: str, side_px: int) -> NDArray[np.float32]:
    """One drawing turned, scaled, mirrored, moved and re-lit: premultiplied RGBA, 0..1 alpha."""
    vendor = UNSEEN_VENDOR if scene.unseen else rng.choice(vendors_of(word))
    source_px = 64 if side_px > 40 else 32
    source = sprites(vendor, source_px)[word]
    placed = source.transform(
        (side_px, side_px), Image.Transform.AFFINE, _placement(rng, side_px, source_px),
        Image.Resampling.BILINEAR,
    )  # fmt: skip
    return _relight(rng, np.asarray(placed, dtype=np.float32))


def _placement(rng: Random, side_px: int, source_px: int) -> tuple[float, ...]:
    """Output pixel -> source pixel: the inverse of turn, mirror, scale and shift."""
    size_px = side_px * rng.uniform(0.68, 1.0)
    slack_px = (side_px - size_px) / 2 + 0.04 * side_px
    centre_x = side_px / 2 + rng.uniform(-slack_px, slack_px)
    centre_y = side_px / 2 + rng.uniform(-slack_px, slack_px)
    angle, ratio = math.radians(rng.gauss(0, 10)), source_px / size_px
    cos, sin = math.cos(angle) * ratio, math.sin(angle) * ratio
    mirror = rng.choice((-1, 1))
    stretch = rng.uniform(0.88, 1.12)
    a, b, d, e = cos * mirror * stretch, sin * mirror * stretch, -sin, cos
    middle = source_px / 2
    return (a, b, middle - a * centre_x - b * centre_y, d, e, middle - d * centre_x - e * centre_y)


def _relight(rng: Random, rgba: NDArray[np.float32]) -> NDArray[np.float32]:
    """Other paint and another lamp: what differs between vendors that draw the same thing."""
    alpha = rgba[..., 3:] / 255
    colour = rgba[..., :3]
    gain = np.array([rng.uniform(0.82, 1.12) for _ in range(3)], np.float32)
    grey = colour.mean(axis=2, keepdims=True)
    colour = grey + (colour - grey) * rng.uniform(0.65, 1.2)
    light = _shading(rng, rgba.shape[0], 0.35)[..., None]
    colour = np.clip(colour * gain * light, 0, 255 * alpha)
    return np.concatenate([colour, alpha], axis=2)


def _paste(rng: Random, canvas: Canvas, sprite: NDArray[np.float32], left: int, top: int) -> None:
    side = sprite.shape[0]
    window = canvas[top : top + side, left : left + side]
    if rng.random() < 0.35:
        down, right = rng.randint(1, 1 + side // 14), rng.randint(-side // 14, side // 14)
        shadow = np.roll(sprite[..., 3:], (down, right), axis=(0, 1))
        window *= 1 - shadow * rng.uniform(0.15, 0.45)
    window *= 1 - sprite[..., 3:]
    window += sprite[..., :3]


def photograph(rng: Random, canvas: Canvas) -> NDArray[np.uint8]:
    """The camera: exposure, a little noise, sometimes softness."""
    canvas = canvas * rng.uniform(0.9, 1.06) + rng.uniform(-6, 6)
    if rng.random() < 0.3:
        noise = np.random.default_rng(rng.getrandbits(32))
        grain = noise.standard_normal(canvas.shape, np.float32)
        canvas = canvas + grain * rng.uniform(1, 6)
    pixels = np.clip(canvas, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        soft = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
        pixels = np.asarray(soft)
    return pixels
