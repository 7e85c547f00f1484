"""What Pillow does not say of a PNG: that it is cut short, or that rows are missing."""

import zlib

import numpy as np
from PIL import Image as Pillow

from rm_core.errors import InvalidImage

# Where each pass of an interlaced PNG starts, and its steps (PNG specification, section 8).
ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


def refuse_unfinished(picture: Pillow.Image, data: bytes) -> None:
    # Pillow fills missing rows of a PNG with black without a word.
    if picture.format != "PNG" or b"IEND" in data[-64:]:
        return
    if b"IEND" in data:
        raise InvalidImage("the PNG goes on after its end chunk; send the picture alone")
    raise InvalidImage("the PNG has no end chunk: the file is cut short; send the whole file")


def refuse_missing_rows(picture: Pillow.Image, data: bytes) -> None:
    """A PNG whose pixels end at a row: Pillow leaves the others empty without a word.

    Counting the rows costs as much as decoding, so only a last row that is empty is doubted.
    """
    if (
        picture.format != "PNG"
        or np.asarray(picture.crop((0, picture.height - 1, *picture.size))).any()
    ):
        return
    if _inflated_bytes(data) < _png_bytes(picture, data):
        raise InvalidImage("rows are missing at the end of the PNG; send the whole file")


def _inflated_bytes(data: bytes) -> int:
    """How many bytes the PNG's pixel chunks hold, without keeping them."""
    inflate, total, at = zlib.decompressobj(), 0, 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            chunk = data[at + 8 : at + 8 + length]
            while chunk:
                total += len(inflate.decompress(chunk, 1 << 20))
                chunk = inflate.unconsumed_tail
        at += 12 + length
    return total


def _png_bytes(picture: Pillow.Image, data: bytes) -> int:
    """Bytes of all rows by the header: a filter byte and the pixels, for each of seven passes
    where the picture is interlaced."""
    depth, colour, interlaced = data[24], data[25], data[28]
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for x, y, step_x, step_y in passes:
        columns = -(-(picture.width - x) // step_x)
        rows = -(-(picture.height - y) // step_y)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total
