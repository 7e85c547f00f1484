"""A picture as a caller has it -> its address on the wire, and the bytes still to be uploaded."""

import base64
import hashlib
import io
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from rm_core.errors import InvalidImage

# A file, its bytes, an opened picture, RGB pixels of shape (height, width, 3), or a URL.
Picture: TypeAlias = Path | bytes | Pillow.Image | NDArray[np.uint8] | str
SCHEMES = ("http", "https", "data", "sha256")
MAGIC = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"RIFF", "webp"))
FITS_PNG = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


class Pictures:
    """The pictures of one request, and what of them must be on the server first."""

    def __init__(self, *, upload: bool) -> None:
        self._upload = upload
        self.uploads: dict[str, bytes] = {}

    def address(self, picture: Picture) -> str:
        """`sha256:<hex>`, or a data URL where nothing is uploaded; a URL stays as it is."""
        if isinstance(picture, str):
            return checked_url(picture)
        data = as_bytes(picture)
        if not self._upload:
            return data_url(data)
        digest = hashlib.sha256(data).hexdigest()
        self.uploads[digest] = data
        return f"sha256:{digest}"


def is_url(text: str) -> bool:
    return text.partition(":")[0].lower() in SCHEMES


def checked_url(text: str) -> str:
    if not is_url(text):
        raise InvalidImage(
            f"{text[:80]!r} is not a URL; for a file pass pathlib.Path({text[:80]!r})"
        )
    return text


def as_bytes(picture: Path | bytes | Pillow.Image | NDArray[np.uint8]) -> bytes:
    """The encoded picture; what was never a file becomes a PNG, which loses nothing."""
    match picture:
        case bytes():
            return picture
        case Path():
            return picture.read_bytes()
        case Pillow.Image():
            return _png(_upright(picture))
        case np.ndarray():
            return _png(_from_pixels(picture))
    raise InvalidImage(
        f"a picture is a pathlib.Path, bytes, a PIL image, a numpy array or a URL, "
        f"not {type(picture).__name__}"
    )


def data_url(data: bytes) -> str:
    kind = next((kind for magic, kind in MAGIC if data.startswith(magic)), None)
    if kind is None:
        raise InvalidImage("the bytes are no PNG, JPEG or WebP picture; send the whole file")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _upright(picture: Pillow.Image) -> Pillow.Image:
    """As the server would turn the file, so that a path and the opened picture score the same."""
    turned = ImageOps.exif_transpose(picture)
    return turned if turned.mode in FITS_PNG else turned.convert("RGB")


def _from_pixels(pixels: NDArray[np.uint8]) -> Pillow.Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InvalidImage(
            f"an array of {pixels.dtype} and shape {pixels.shape} is no picture; "
            "pass uint8 of shape (height, width, 3)"
        )
    return Pillow.fromarray(np.ascontiguousarray(pixels))


def _png(picture: Pillow.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)  # the wire is fast, and so must this be
    return buffer.getvalue()
