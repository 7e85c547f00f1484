"""Bytes -> RGB pixels -> smart resize -> patch rows, exactly as the released processor does it."""

import hashlib
import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from rm_core import png
from rm_core.errors import InvalidImage, TooManyPixels
from rm_core.types import Image, Pixels

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_ASPECT_RATIO = 200


@dataclass(frozen=True, slots=True)
class PixelRules:
    """The part of `preprocessor_config.json` that decides what the vision tower sees."""

    min_pixels: int = 56 * 56
    max_pixels: int = 12_845_056
    patch_size: int = 14
    merge_size: int = 2
    temporal_patch_size: int = 2
    image_mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    @property
    def factor(self) -> int:
        return self.patch_size * self.merge_size


@dataclass(frozen=True, eq=False, slots=True)
class EncodedImage:
    """Raw uint8 `patches` of shape (grid_h * grid_w, 3 * 2 * 14 * 14) in merge order."""

    patches: NDArray[np.uint8]
    grid_thw: tuple[int, int, int]
    digest: str

    @property
    def num_patches(self) -> int:
        return math.prod(self.grid_thw)

    def num_tokens(self, merge_size: int) -> int:
        return self.num_patches // merge_size**2


def decode(data: bytes, *, max_pixels: int) -> Image:
    """Open PNG, JPEG or WebP bytes; refuses by the header first, and never returns half a file."""
    try:
        with Pillow.open(io.BytesIO(data), formats=FORMATS) as opened:
            _refuse_too_many_pixels(opened, max_pixels)
            _refuse_elongated(opened.height, opened.width)
            _refuse_animated(opened)
            png.refuse_unfinished(opened, data)
            opened.load()
            png.refuse_missing_rows(opened, data)
            pixels = np.asarray(_as_rgb(ImageOps.exif_transpose(opened)))
    except Pillow.DecompressionBombError as error:
        raise TooManyPixels(
            f"the picture's header promises over 178 million pixels; the limit is {max_pixels}. "
            "Scale it down before sending."
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidImage(
            f"not a complete {'/'.join(FORMATS)} picture ({_reason(error)}); send the whole file"
        ) from error
    return Image(pixels, hashlib.sha256(data).hexdigest())


def resize_target(height: int, width: int, rules: PixelRules) -> tuple[int, int]:
    """Nearest (height, width) divisible by the factor whose area lies within the pixel budget."""
    _refuse_elongated(height, width)
    factor = rules.factor
    # Round half to even: the released processor does, and one patch more shifts every position.
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    if rows * columns > rules.max_pixels:
        shrink = math.sqrt(height * width / rules.max_pixels)
        rows = max(factor, math.floor(height / shrink / factor) * factor)
        columns = max(factor, math.floor(width / shrink / factor) * factor)
    elif rows * columns < rules.min_pixels:
        grow = math.sqrt(rules.min_pixels / (height * width))
        rows = math.ceil(height * grow / factor) * factor
        columns = math.ceil(width * grow / factor) * factor
    return rows, columns


def encode_image(image: Image, rules: PixelRules) -> EncodedImage:
    """Resize (bicubic, as Pillow does) and cut into patches; normalising happens on the device."""
    height, width = image.pixels.shape[:2]
    rows, columns = resize_target(height, width, rules)
    pixels = image.pixels
    if (rows, columns) != (height, width):
        resized = Pillow.fromarray(pixels).resize((columns, rows), Pillow.Resampling.BICUBIC)
        pixels = np.asarray(resized)
    return EncodedImage(
        patches=_patchify(pixels, rules),
        grid_thw=(1, rows // rules.patch_size, columns // rules.patch_size),
        digest=image.digest,
    )


def _patchify(pixels: Pixels, rules: PixelRules) -> NDArray[np.uint8]:
    size, merge = rules.patch_size, rules.merge_size
    rows, columns = pixels.shape[0] // size, pixels.shape[1] // size
    # axes: block row, row in block, y, block column, column in block, x, channel
    cut = pixels.reshape(rows // merge, merge, size, columns // merge, merge, size, 3)
    patches = cut.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3, 1, size, size)
    # A still picture is a film of identical frames.
    film = np.repeat(patches, rules.temporal_patch_size, axis=2)
    return film.reshape(rows * columns, -1)


def _refuse_animated(picture: Pillow.Image) -> None:
    # Phones write JPEGs with a second picture behind the first; those are stills.
    if picture.format in ("PNG", "WEBP") and getattr(picture, "is_animated", False):
        raise InvalidImage("the picture is animated; send one of its frames as a still picture")


def _as_rgb(picture: Pillow.Image) -> Pillow.Image:
    """Transparent pictures are seen on white, as the released model's own loader shows them."""
    if picture.mode.startswith("I"):  # 16 bits of grey: Pillow would clip them to white
        return Pillow.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Pillow.new("RGBA", layer.size, "white")
        return Pillow.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")


def _refuse_too_many_pixels(picture: Pillow.Image, max_pixels: int) -> None:
    if (pixels := picture.width * picture.height) > max_pixels:
        raise TooManyPixels(
            f"the picture is {picture.width}x{picture.height} = {pixels} pixels; "
            f"the limit is {max_pixels}. Scale it down before sending."
        )


def _refuse_elongated(height: int, width: int) -> None:
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise InvalidImage(
            f"a picture of {width}x{height} is too elongated; one side may be at most "
            f"{MAX_ASPECT_RATIO} times the other"
        )


def _reason(error: Exception) -> str:
    text = str(error)
    return "unknown format" if "cannot identify" in text else text[:120]
