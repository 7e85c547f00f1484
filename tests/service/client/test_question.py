"""Pictures in every form a caller has them, and what of a wrong call is said before it is sent."""

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from rm_core.errors import InvalidImage, InvalidInput
from rm_core.images import decode
from service.client.pictures import Pictures, as_bytes
from service.client.question import Question
from tests.groups import picture
from tests.service.serving import png

PIXELS = picture(1, 40, 60).pixels


def shown(data: bytes) -> Any:
    return decode(data, max_pixels=10_000).pixels


def test_a_file_and_its_bytes_are_sent_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    pictures = Pictures(upload=True)
    addresses = {pictures.address(tmp_path / "a.png"), pictures.address(png())}
    digest = hashlib.sha256(png()).hexdigest()
    assert addresses == {f"sha256:{digest}"}
    assert pictures.uploads == {digest: png()}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "I;16"])
def test_an_opened_picture_of_any_mode_is_what_the_server_would_see_of_it(mode: str) -> None:
    if mode == "I;16":
        opened = Pillow.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 256)
    else:
        opened = Pillow.fromarray(PIXELS).convert(mode)
    seen = shown(as_bytes(opened))
    assert seen.shape == PIXELS.shape
    if mode in ("RGB", "RGBA"):
        assert np.array_equal(seen, PIXELS)


def test_pixels_arrive_unchanged_also_from_a_view() -> None:
    assert np.array_equal(shown(as_bytes(PIXELS)), PIXELS)
    flipped = PIXELS[:, ::-1]
    assert np.array_equal(shown(as_bytes(flipped)), flipped)


def test_an_opened_photograph_is_turned_as_its_file_is() -> None:
    file, exif = io.BytesIO(), Pillow.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    Pillow.fromarray(PIXELS).save(file, "PNG", exif=exif)
    seen = shown(as_bytes(Pillow.open(io.BytesIO(file.getvalue()))))
    assert seen.shape == (60, 40, 3)
    assert np.array_equal(seen, shown(file.getvalue()))


@pytest.mark.parametrize("url", ["https://x/y.png", "data:image/png;base64,AA", "sha256:00"])
def test_a_url_stays_as_it_is(url: str) -> None:
    pictures = Pictures(upload=True)
    assert pictures.address(url) == url
    assert not pictures.uploads


def test_without_uploads_pictures_travel_in_the_request() -> None:
    pictures = Pictures(upload=False)
    assert pictures.address(png()) == f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    with pytest.raises(InvalidImage, match="no PNG, JPEG or WebP"):
        pictures.address(b"GIF89a")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("apple.png", r"pathlib\.Path\('apple\.png'\)"),
        (PIXELS.astype(np.float32), "float32"),
        (PIXELS[:, :, :1], r"\(40, 60, 1\)"),
        (7, "not int"),
    ],
)
def test_what_is_no_picture(wrong: Any, words: str) -> None:
    with pytest.raises(InvalidImage, match=words):
        Pictures(upload=True).address(wrong)


def test_pictures_inside_messages() -> None:
    part = {"type": "image_url", "image_url": {"url": png()}}
    message = {"role": "user", "content": [part, {"type": "text", "text": "What is it?"}]}
    asked = Question([{"role": "system", "content": "Be brief."}, message]).rank(["a", "b"])
    digest = hashlib.sha256(png()).hexdigest()
    sent = json.loads(asked.body)["messages"][1]["content"]
    assert sent[0]["image_url"]["url"] == f"sha256:{digest}"
    assert list(asked.uploads) == [digest]
    assert part["image_url"] == {"url": png()}, "the caller's own message was changed"


@pytest.mark.parametrize(
    ("prompt", "responses", "images", "words"),
    [
        ("x", "y", (), "responses is a list"),
        ("x", 7, (), "responses is a list"),
        ("x", ["y"], png(), "images is a list"),
        ("x", ["y"], PIXELS, "images is a list"),
        ([{"role": "user", "content": "x"}], ["y"], [png()], "go into the messages"),
        ("x", [{1}], (), "cannot be written as JSON"),
    ],
)
def test_a_wrong_call(prompt: Any, responses: Any, images: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Question(prompt, images).score(responses)
