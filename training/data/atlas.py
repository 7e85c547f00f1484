"""The vendored drawings: one sheet per vendor, premultiplied so that shrinking leaves no fringe."""

import json
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from training.data.objects import OBJECTS

PICTURES = Path(__file__).parent / "pictures"
CELL_PX, COLUMNS = 64, 6
TRAIN_VENDORS = ("noto", "twemoji", "emojione", "fxemoji", "noto_v1", "streamline")
UNSEEN_VENDOR = "fluent"


@cache
def sprites(vendor: str, side_px: int = CELL_PX) -> dict[str, Image.Image]:
    """word -> drawing of side_px squared; the colour bands are already multiplied by alpha."""
    missing = json.loads((PICTURES / "manifest.json").read_text())[vendor]["missing"]
    with Image.open(PICTURES / f"{vendor}.png") as sheet:
        rgba = np.asarray(sheet.convert("RGBA"), dtype=np.float32)
    rgba[..., :3] *= rgba[..., 3:] / 255.0
    cells = Image.fromarray(rgba.round().astype(np.uint8), "RGBA")
    return {
        word: _cell(cells, index).resize((side_px, side_px), Image.Resampling.BOX)
        for index, word in enumerate(OBJECTS)
        if word not in missing
    }


@cache
def vendors_of(word: str) -> tuple[str, ...]:
    """The training vendors that drew this thing."""
    return tuple(vendor for vendor in TRAIN_VENDORS if word in sprites(vendor))


def _cell(cells: Image.Image, index: int) -> Image.Image:
    left, top = index % COLUMNS * CELL_PX, index // COLUMNS * CELL_PX
    return cells.crop((left, top, left + CELL_PX, top + CELL_PX))
