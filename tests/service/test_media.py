"""Where pictures come from."""

import base64
import hashlib
import re

import pytest

from rm_core.errors import ImageNotFound, InvalidImage, RewardError, TooLarge
from service.errors import DigestMismatch, NotSupported
from service.media import ImageStore, check_digest, picture_bytes
from tests.service.serving import data_url, png

STORE = ImageStore(1 << 20)
CODE = base64.b64encode(b"picture bytes!").decode()


@pytest.mark.parametrize("kind", ["png", "jpeg", "jpg", "webp", "PNG"])
def test_a_data_url_is_its_bytes(kind: str) -> None:
    assert picture_bytes(data_url(b"abc", kind), STORE, {}) == b"abc"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        pytest.param("https://example.com/a.png", NotSupported, id="https"),
        pytest.param("HTTP://example.com/a.png", NotSupported, id="http"),
        pytest.param("file:///etc/passwd", InvalidImage, id="file"),
        pytest.param("/etc/passwd", InvalidImage, id="path"),
        pytest.param("", InvalidImage, id="empty"),
        pytest.param("data:image/png;base64", InvalidImage, id="no_comma"),
        pytest.param(f"data:image/png,{CODE}", InvalidImage, id="not_base64"),
        pytest.param(f"data:image/svg+xml;base64,{CODE}", InvalidImage, id="svg"),
        pytest.param(f"data:text/html;base64,{CODE}", InvalidImage, id="html"),
        pytest.param(f"data:image/png;base64,{CODE[:-1]}", InvalidImage, id="cut_padding"),
        pytest.param(f"data:image/png;base64,{CODE}=", InvalidImage, id="excess_padding"),
        pytest.param(f"data:image/png;base64,{CODE[:4]}\n{CODE[4:]}", InvalidImage, id="newline"),
        pytest.param("data:image/png;base64,ab-_", InvalidImage, id="url_safe_alphabet"),
        pytest.param("data:image/png;base64,äöü=", InvalidImage, id="not_ascii"),
        pytest.param(f"data:image/png;base64,{CODE},{CODE}", InvalidImage, id="two_frames"),
        pytest.param("sha256:xyz", InvalidImage, id="not_a_digest"),
        pytest.param("sha256:" + "A" * 64, InvalidImage, id="upper_case_digest"),
        pytest.param("sha256:" + "a" * 64, ImageNotFound, id="unknown_digest"),
    ],
)
def test_what_is_not_a_picture_address_is_refused(url: str, error: type[RewardError]) -> None:
    with pytest.raises(error) as refused:
        picture_bytes(url, STORE, {})
    assert not re.search("0x[0-9a-f]{6}", refused.value.message)


def test_the_store_forgets_the_least_recently_used_and_keeps_its_bound() -> None:
    store = ImageStore(100)
    for name in "abc":
        assert store.put(name, name.encode() * 30)
    store.get("a")
    assert store.put("d", b"d" * 30)
    assert (len(store), store.size_bytes) == (3, 90)
    with pytest.raises(ImageNotFound):
        store.get("b")
    assert store.get("a") == b"a" * 30


def test_the_same_picture_is_kept_once() -> None:
    store = ImageStore(100)
    assert store.put("a", b"a" * 60)
    assert not store.put("a", b"a" * 60)
    assert store.size_bytes == 60


def test_a_picture_larger_than_the_store_evicts_nobody() -> None:
    store = ImageStore(100)
    store.put("a", b"a" * 60)
    with pytest.raises(TooLarge):
        store.put("b", b"b" * 101)
    assert store.get("a") == b"a" * 60


def test_the_digest_must_match() -> None:
    data = png()
    check_digest(data, hashlib.sha256(data).hexdigest())
    with pytest.raises(DigestMismatch):
        check_digest(data + b"x", hashlib.sha256(data).hexdigest())
