"""Three-axis rotary positions (time, height, width), built beside the tokens they belong to."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Positions: TypeAlias = NDArray[np.int64]


def text_positions(start: int, length: int) -> Positions:
    """Positions of shape (3, length): text advances on the three axes together."""
    return np.broadcast_to(np.arange(start, start + length), (3, length))


def image_positions(start: int, grid_thw: tuple[int, int, int], merge_size: int) -> Positions:
    """Positions of shape (3, merged tokens): a picture fans out by row and column from `start`."""
    frames, rows, columns = grid_thw[0], grid_thw[1] // merge_size, grid_thw[2] // merge_size
    return np.indices((frames, rows, columns)).reshape(3, -1) + start


def after_image(start: int, grid_thw: tuple[int, int, int], merge_size: int) -> int:
    """Where text goes on: one past the longer side of the picture."""
    return start + max(grid_thw[1], grid_thw[2]) // merge_size


def join(parts: Sequence[Positions]) -> Positions:
    return np.concatenate(parts, axis=1).astype(np.int64, copy=False)
