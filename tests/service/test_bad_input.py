"""Everything a caller can get wrong: the documented status and code, and a server that lives on."""

import hashlib
import json
import struct
import zlib
from typing import Any

import httpx
import pytest

from rm_core.scorer import Scorer
from tests.service.serving import Running, data_url, png, serving

GOOD: dict[str, Any] = {"prompt": "What is shown?", "responses": ["A cat.", "A dog."]}
JSON = {"content-type": "application/json"}


def bomb(side: int) -> bytes:
    """A PNG of side x side whose header is honest and whose body is not worth decoding."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


def good(**changes: Any) -> dict[str, Any]:
    return {k: v for k, v in (GOOD | changes).items() if v is not ...}


def message(content: Any, role: str = "user") -> dict[str, Any]:
    return good(prompt=..., messages=[{"role": role, "content": content}])


def picture(url: str) -> dict[str, Any]:
    return message([{"type": "image_url", "image_url": {"url": url}}])


async def refused(
    server: Running, answer: httpx.Response, status: int, code: str, field: str | None
) -> None:
    """The one shape, nothing echoed, and the next request works."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == (code, field), error
    assert error["request_id"] == answer.headers["x-request-id"]
    assert len(answer.content) < 1000
    assert (await server.post("/score", GOOD)).status_code == 200
    assert server.parts.admission.in_flight == 0


CASES = [
    pytest.param([], 422, "invalid_input", None, id="a_list"),
    pytest.param("hi", 422, "invalid_input", None, id="a_string"),
    pytest.param(None, 422, "invalid_input", None, id="null"),
    pytest.param({}, 422, "invalid_input", None, id="nothing"),
    pytest.param(good(prompt=...), 422, "invalid_input", None, id="no_prompt"),
    pytest.param(good(prompt=""), 422, "invalid_input", "prompt", id="empty_prompt"),
    pytest.param(good(prompt=7), 422, "invalid_input", "prompt", id="prompt_is_a_number"),
    pytest.param(good(prompt=True), 422, "invalid_input", "prompt", id="prompt_is_a_bool"),
    pytest.param(good(propmt="x"), 422, "invalid_input", "propmt", id="unknown_key"),
    pytest.param(good(**{"k" * 9999: 1}), 422, "invalid_input", "k" * 200, id="huge_key"),
    pytest.param(good(messages=[]), 422, "invalid_input", "messages", id="no_messages"),
    pytest.param(good(responses=...), 422, "invalid_input", None, id="no_responses_key"),
    pytest.param(good(responses=[]), 422, "invalid_input", "responses", id="no_responses"),
    pytest.param(good(responses=None), 422, "invalid_input", None, id="null_responses"),
    pytest.param(good(responses="yes"), 422, "invalid_input", "responses", id="not_a_list"),
    pytest.param(good(responses=["a", ""]), 422, "invalid_input", "responses[1]", id="empty_one"),
    pytest.param(good(responses=["a", 1]), 422, "invalid_input", "responses[1]", id="number_in"),
    pytest.param(good(response="a"), 422, "invalid_input", None, id="response_and_responses"),
    pytest.param(
        good(responses=["a"] * 5000), 422, "too_many_responses", "responses", id="5000_responses"
    ),
    pytest.param(good(images="x"), 422, "invalid_input", "images", id="images_not_a_list"),
    pytest.param(good(images=["x"]), 422, "invalid_image", "images[0]", id="not_an_address"),
    pytest.param(good(images=["x"] * 65), 422, "too_many_images", "images", id="65_images"),
    pytest.param(
        {"response": "a", "messages": [{}] * 200_000},
        *(422, "invalid_input", "messages[0].role"),
        id="many_errors",
    ),
    pytest.param(
        {"response": "a"} | dict.fromkeys(map(str, range(300))),
        *(422, "invalid_input", None),
        id="many_keys",
    ),
    pytest.param(
        good(images=[data_url(png()), data_url(b"<html>")]),
        *(422, "invalid_image", "images[1]"),
        id="not_an_image",
    ),
    pytest.param(
        good(images=[data_url(png(300, 300)[:-30])]),
        *(422, "invalid_image", "images[0]"),
        id="truncated_png",
    ),
    pytest.param(
        good(images=[data_url(png(300, 300, kind="JPEG")[:-500])]),
        *(422, "invalid_image", "images[0]"),
        id="truncated_jpeg",
    ),
    pytest.param(
        good(images=[data_url(png(kind="GIF"))]), 422, "invalid_image", "images[0]", id="a_gif"
    ),
    pytest.param(
        good(images=[data_url(png(10, 3000))]), 422, "invalid_image", "images[0]", id="elongated"
    ),
    pytest.param(
        good(images=[data_url(bomb(20_000))]), 413, "too_many_pixels", "images[0]", id="20k_x_20k"
    ),
    pytest.param(
        good(images=[data_url(bomb(5_001))]), 413, "too_many_pixels", "images[0]", id="just_over"
    ),
    pytest.param(
        good(images=["sha256:" + "a" * 64]), 422, "image_not_found", "images[0]", id="forgotten"
    ),
    pytest.param(
        good(images=["https://example.com/a.png"]), 422, "not_supported", "images[0]", id="url"
    ),
    pytest.param(good(videos=["x"]), 422, "not_supported", "videos", id="videos"),
    pytest.param(good(prompt="word " * 2000), 413, "too_many_tokens", None, id="too_many_tokens"),
    pytest.param(good(prompt="x" * 1_000_001), 413, "text_too_long", None, id="a_million_chars"),
    pytest.param(
        message("hi", "robot"), 422, "invalid_input", "messages[0].role", id="unknown_role"
    ),
    pytest.param(message("hi", "assistant"), 422, "invalid_input", None, id="assistant_last"),
    pytest.param(message(""), 422, "invalid_input", "messages[0].content", id="empty_content"),
    pytest.param(message([]), 422, "invalid_input", "messages[0].content", id="no_parts"),
    pytest.param(message(5), 422, "invalid_input", "messages[0].content", id="content_type"),
    pytest.param(
        message(["hi"]), 422, "invalid_input", "messages[0].content[0]", id="part_is_a_string"
    ),
    pytest.param(
        message([{"type": "audio"}]),
        *(422, "invalid_input", "messages[0].content[0]"),
        id="unknown_part",
    ),
    pytest.param(
        message([{"type": "text"}]),
        *(422, "invalid_input", "messages[0].content[0].text"),
        id="part_without_text",
    ),
    pytest.param(
        message([{"type": "video_url", "video_url": {"url": "x"}}]),
        *(422, "not_supported", "messages[0].content[0].video_url"),
        id="video_part",
    ),
    pytest.param(
        picture("nowhere"),
        *(422, "invalid_image", "messages[0].content[0].image_url.url"),
        id="part_not_an_address",
    ),
]


@pytest.mark.parametrize(("body", "status", "code", "field"), CASES)
async def test_a_wrong_body_is_refused_by_name(
    server: Running, body: Any, status: int, code: str, field: str | None
) -> None:
    await refused(server, await server.post("/score", body), status, code, field)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        pytest.param("/rank", good(responses=["a"]), "responses", id="rank_needs_two"),
        pytest.param("/rank", good(response="a"), "response", id="rank_has_no_short_form"),
        pytest.param("/compare", good(), "response_a", id="compare_takes_a_and_b"),
        pytest.param(
            "/compare",
            {"prompt": "x", "response_a": "a", "response_b": ""},
            "response_b",
            id="compare_empty_answer",
        ),
    ],
)
async def test_each_route_has_its_own_body(
    server: Running, path: str, body: Any, field: str
) -> None:
    await refused(server, await server.post(path, body), 422, "invalid_input", field)


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        pytest.param(b"", 400, "not_json", id="empty"),
        pytest.param(b"prompt=x", 400, "not_json", id="form"),
        pytest.param(json.dumps(GOOD)[:-1].encode(), 400, "not_json", id="cut"),
        pytest.param(b'{"prompt": "\xff"}', 422, "invalid_input", id="invalid_utf8"),
        pytest.param(b'{"prompt": NaN}', 422, "invalid_input", id="nan"),
        pytest.param(rb'{"prompt": "\ud800", "response": "a"}', 422, "invalid_input", id="half"),
        pytest.param(b"[" * 200_000, 422, "invalid_input", id="deep"),
    ],
)
async def test_broken_json(server: Running, data: bytes, status: int, code: str) -> None:
    answer = await server.client.post("/score", content=data, headers=JSON)
    await refused(server, answer, status, code, None)


async def test_a_duplicate_key_is_named(server: Running) -> None:
    data = b'{"prompt": "a", "prompt": "b", "response": "c"}'
    answer = await server.client.post("/score", content=data, headers=JSON)
    await refused(server, answer, 422, "invalid_input", "prompt")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"content-type": "text/plain"}, id="text"),
        pytest.param({"content-type": "application/x-www-form-urlencoded"}, id="form"),
        pytest.param({"content-type": "application/json; charset=utf-16"}, id="utf16"),
        pytest.param(JSON | {"content-encoding": "gzip"}, id="gzip"),
    ],
)
async def test_a_wrong_media_type(server: Running, headers: dict[str, str]) -> None:
    answer = await server.client.post("/score", content=json.dumps(GOOD), headers=headers)
    await refused(server, answer, 415, "unsupported_media_type", None)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"X-Deadline-Ms": "soon"}, "header.X-Deadline-Ms"),
        ({"X-Deadline-Ms": "0"}, "header.X-Deadline-Ms"),
        ({"X-Deadline-Ms": "-5"}, "header.X-Deadline-Ms"),
        ({"X-Priority": "urgent"}, "header.X-Priority"),
    ],
)
async def test_a_wrong_header(server: Running, headers: dict[str, str], field: str) -> None:
    answer = await server.client.post("/score", json=GOOD, headers=headers)
    await refused(server, answer, 422, "invalid_input", field)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/score/", 404, "not_found"),
        ("GET", "/static/../settings.py", 404, "not_found"),
        ("GET", "/static/%2e%2e/settings.py", 404, "not_found"),
        ("GET", "/score", 405, "method_not_allowed"),
        ("TRACE", "/health", 405, "method_not_allowed"),
    ],
)
async def test_a_wrong_address(
    server: Running, method: str, path: str, status: int, code: str
) -> None:
    answer = await server.client.request(method, path)
    await refused(server, answer, status, code, None)
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("data", "digest", "kind", "status", "code"),
    [
        pytest.param(png(), "0" * 64, "image/png", 422, "digest_mismatch", id="digest"),
        pytest.param(b"<html>", None, "image/png", 422, "invalid_image", id="not_an_image"),
        pytest.param(bomb(20_000), None, "image/png", 413, "too_many_pixels", id="bomb"),
        pytest.param(png(), None, "text/plain", 415, "unsupported_media_type", id="type"),
        pytest.param(png(), "XYZ", "image/png", 422, "invalid_input", id="not_hex"),
    ],
)
async def test_a_wrong_upload(
    server: Running, data: bytes, digest: str | None, kind: str, status: int, code: str
) -> None:
    path = f"/images/{digest or hashlib.sha256(data).hexdigest()}"
    answer = await server.client.put(path, content=data, headers={"content-type": kind})
    field = "path.sha256" if digest == "XYZ" else None
    await refused(server, answer, status, code, field)
    assert len(server.parts.store) == 0


async def test_all_pictures_of_a_request_share_one_pixel_budget(random_scorer: Scorer) -> None:
    urls = [data_url(png(100, 100, colour)) for colour in ("red", "green", "blue")]
    async with serving(random_scorer, max_request_pixels=25_000) as server:
        answer = await server.post("/score", good(images=urls))
        await refused(server, answer, 413, "too_many_pixels", "images[2]")


async def test_more_tokens_than_a_batch_holds(random_scorer: Scorer) -> None:
    async with serving(random_scorer, max_batch_tokens=128) as server:
        answer = await server.post("/score", good(responses=["word " * 40]))
        await refused(server, answer, 413, "too_much_work", None)
        assert "128" in answer.json()["error"]["message"]
