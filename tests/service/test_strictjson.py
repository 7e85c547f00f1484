"""What the standard parser lets through and we do not."""

import pytest

from rm_core.errors import InvalidInput
from service import strictjson
from service.errors import NotJson


def test_ordinary_json_comes_through() -> None:
    assert strictjson.parse('{"a": [1, "ö😀", null]}'.encode()) == {"a": [1, "ö😀", None]}


def test_an_escaped_surrogate_pair_is_one_character() -> None:
    assert strictjson.parse(rb'"\ud83d\ude00"') == "😀"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"  ", id="blank"),
        pytest.param(b"{'a': 1}", id="single_quotes"),
        pytest.param(b'{"a": 1,}', id="trailing_comma"),
        pytest.param(b'{"a": 1} {}', id="two_documents"),
        pytest.param(b'{"a": 1} // hi', id="comment"),
        pytest.param(b'{"a": "\x01"}', id="raw_control_character"),
        pytest.param('\ufeff{"a": 1}'.encode(), id="byte_order_mark"),
    ],
)
def test_not_json(data: bytes) -> None:
    with pytest.raises(NotJson, match="not JSON"):
        strictjson.parse(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b'{"a": 1, "a": 2}', "twice", id="duplicate_key"),
        pytest.param(b'{"x": {"a": 1, "b": 0, "a": 2}}', "twice", id="inner_duplicate"),
        pytest.param(b'{"a": NaN}', "NaN", id="nan"),
        pytest.param(b'{"a": -Infinity}', "Infinity", id="infinity"),
        pytest.param(b'{"a": "\xff"}', "UTF-8", id="invalid_utf8"),
        pytest.param(b'{"a": "\xc0\xaf"}', "UTF-8", id="overlong_utf8"),
        pytest.param('{"a": 1}'.encode("utf-16"), "UTF-8", id="utf16"),
        pytest.param(rb'{"a": "\ud800"}', "surrogate", id="lone_high"),
        pytest.param(rb'{"\uDFFF": 1}', "surrogate", id="lone_low_in_a_key"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, "deeply", id="deep"),
        pytest.param(b"1" * 5000, "digits", id="huge_integer"),
    ],
)
def test_json_nobody_should_trust(data: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        strictjson.parse(data)
