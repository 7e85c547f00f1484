"""Colour words and the range of colours each one names."""

import colorsys
from random import Random

import numpy as np
from numpy.typing import NDArray

# hue in degrees, saturation and value in percent, each (from, to); no two words overlap
RANGES: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "red": ((-8, 8), (70, 95), (65, 95)),
    "orange": ((24, 34), (75, 100), (90, 100)),
    "yellow": ((48, 60), (55, 100), (88, 100)),
    "green": ((100, 140), (45, 90), (45, 80)),
    "blue": ((205, 235), (55, 95), (60, 95)),
    "purple": ((268, 288), (45, 80), (45, 75)),
    "pink": ((325, 345), (22, 42), (92, 100)),
    "gray": ((0, 360), (0, 6), (42, 66)),
    "white": ((0, 360), (0, 4), (94, 100)),
    "black": ((0, 360), (0, 15), (3, 14)),
}
BACKGROUNDS = ("red", "yellow", "green", "blue", "purple", "pink", "gray", "white", "black")
BARS = ("red", "orange", "yellow", "green", "blue", "purple", "black")


def draw_colour(rng: Random, word: str) -> NDArray[np.float32]:
    """One RGB colour (0..255) that this word names."""
    hue, saturation, value = (rng.uniform(low, high) for low, high in RANGES[word])
    rgb = colorsys.hsv_to_rgb(hue / 360 % 1, saturation / 100, value / 100)
    return np.array(rgb, dtype=np.float32) * 255
