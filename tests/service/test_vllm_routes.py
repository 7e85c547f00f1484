"""/classify, /pooling and /v1/embeddings: vLLM's and SGLang's shapes around our score."""

import base64
import math
import struct
from typing import Any

import pytest

from rm_core.scorer import Scorer
from rm_core.types import ScoreGroup
from tests.service.foreign import MODEL, expected, ok, refused, templated
from tests.service.serving import ANSWERS, QUESTION, TOLERANCE, Running, asked, data_url, png

RED = png(colour="red")
TEXTS = [templated(QUESTION, answer) for answer in ANSWERS]
ROUTES = ("/classify", "/pooling", "/v1/embeddings")


def vectors(body: dict[str, Any]) -> list[Any]:
    """The numbers of an answer, whatever its rows call them."""
    return [row.get("probs", row.get("data", row.get("embedding"))) for row in body["data"]]


def raw(path: str, **body: Any) -> dict[str, Any]:
    """A request for raw scores; embeddings are never anything else."""
    return {"model": MODEL, **body} | ({} if "embed" in path else {"use_activation": False})


def conversation(answer: Any = ANSWERS[0]) -> list[dict[str, Any]]:
    content = [
        {"type": "image_url", "image_url": {"url": data_url(RED)}},
        {"type": "text", "text": QUESTION},
    ]
    return [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]


@pytest.mark.parametrize("path", ROUTES)
async def test_texts_are_scored_in_order(server: Running, random_scorer: Scorer, path: str) -> None:
    body = await ok(server, path, raw(path, input=TEXTS))
    wanted = expected(random_scorer, QUESTION, ANSWERS)
    assert [v[-1] for v in vectors(body)] == pytest.approx(wanted, abs=TOLERANCE)
    assert [row["index"] for row in body["data"]] == [0, 1, 2]
    assert (body["object"], body["model"]) == ("list", random_scorer.info.name)
    tokens = sum(random_scorer.encode(group).longest for group in map(one, ANSWERS))
    assert body["usage"] == {
        "prompt_tokens": tokens,
        "total_tokens": tokens,
        "completion_tokens": 0,
    }


def one(answer: str) -> ScoreGroup:
    return asked(QUESTION, [answer])


@pytest.mark.parametrize("path", ROUTES)
async def test_a_single_text_is_a_list_of_one(server: Running, path: str) -> None:
    single = await ok(server, path, raw(path, input=TEXTS[0]))
    assert vectors(single) == vectors(await ok(server, path, raw(path, input=TEXTS[:1])))


@pytest.mark.parametrize("path", ROUTES)
async def test_messages_carry_pictures_and_end_with_the_answer(
    server: Running, random_scorer: Scorer, path: str
) -> None:
    wanted = expected(random_scorer, QUESTION, ANSWERS[:1], RED)
    for answer in (ANSWERS[0], [{"type": "text", "text": ANSWERS[0]}]):
        body = await ok(server, path, raw(path, messages=conversation(answer)))
        assert vectors(body)[0] == pytest.approx(wanted, abs=TOLERANCE)


@pytest.mark.parametrize("path", ROUTES[:2])
@pytest.mark.parametrize("asked_for", [{}, {"use_activation": None}, {"use_activation": True}])
async def test_a_sigmoid_is_the_default_as_in_vllm(
    server: Running, path: str, asked_for: dict[str, Any]
) -> None:
    plain = vectors(await ok(server, path, raw(path, input=TEXTS)))
    squashed = vectors(await ok(server, path, {"input": TEXTS} | asked_for))
    wanted = [1 / (1 + math.exp(-score)) for (score,) in plain]
    assert [value for (value,) in squashed] == pytest.approx(wanted)


async def test_classify_has_vllms_keys(server: Running) -> None:
    body = await ok(server, "/classify", {"input": TEXTS[0]})
    assert body.keys() == {"id", "object", "created", "model", "data", "usage"}
    row = body["data"][0]
    assert row | {"probs": None} == {
        "index": 0, "label": "LABEL_0", "probs": None, "num_classes": 1,
    }  # fmt: skip
    assert body["id"].startswith("classify-")


@pytest.mark.parametrize("path", ROUTES[1:])
async def test_base64_is_the_same_float32(server: Running, path: str) -> None:
    ((score,),) = vectors(await ok(server, path, raw(path, input=TEXTS[0])))
    body = await ok(server, path, raw(path, input=TEXTS[0], encoding_format="base64"))
    assert struct.unpack("<f", base64.b64decode(vectors(body)[0])) == (score,)


@pytest.mark.parametrize("path", ROUTES)
async def test_a_truncation_that_would_cut_is_a_limit(
    server: Running, random_scorer: Scorer, path: str
) -> None:
    tokens = random_scorer.encode(one(ANSWERS[2])).longest
    for enough in (tokens, -1, None):
        await ok(server, path, raw(path, input=TEXTS, truncate_prompt_tokens=enough))
    answer = await server.post(path, raw(path, input=TEXTS, truncate_prompt_tokens=tokens - 1))
    assert str(tokens) in refused(answer, 413, "too_many_tokens", "input[2]")


WITH_PAD = templated(QUESTION, "x", RED)
BAD = [
    pytest.param({}, "invalid_input", None, id="nothing"),
    pytest.param({"input": "x", "messages": conversation()}, "invalid_input", None, id="both"),
    pytest.param({"input": []}, "invalid_input", "input", id="empty_list"),
    pytest.param({"input": {}}, "invalid_input", "input", id="object"),
    pytest.param({"input": [1, 2]}, "invalid_input", "input[0]", id="token_ids"),
    pytest.param({"input": "hello"}, "invalid_input", "input", id="plain_text"),
    pytest.param({"input": [TEXTS[0], "hello"]}, "invalid_input", "input[1]", id="second_is_plain"),
    pytest.param({"input": WITH_PAD}, "picture_missing", "input", id="blind"),
    pytest.param({"messages": []}, "invalid_input", "messages", id="no_messages"),
    pytest.param({"messages": conversation()[:1]}, "invalid_input", "messages[0]", id="no_answer"),
    pytest.param(
        {"messages": conversation()[1:]}, "invalid_input", "messages[0]", id="answer_alone"
    ),
    pytest.param(
        {"messages": conversation(conversation()[0]["content"])},
        *("invalid_input", "messages[1].content[0]"),
        id="picture_in_the_answer",
    ),
    pytest.param(
        {
            "messages": [
                {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]},
                conversation()[1],
            ]
        },
        *("not_supported", "messages[0].content[0].video_url"),
        id="video",
    ),
    pytest.param(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "sha256:" + "0" * 64}}],
                },
                conversation()[1],
            ]
        },
        *("image_not_found", "messages[0].content[0].image_url.url"),
        id="forgotten_picture",
    ),
    pytest.param(
        {"input": "x", "chat_template": "{}"}, "invalid_input", "chat_template", id="template"
    ),
    pytest.param(
        {"input": "x", "add_generation_prompt": True},
        "invalid_input",
        "add_generation_prompt",
        id="generation_prompt",
    ),
    pytest.param({"input": "x", "priority": 1}, "invalid_input", "priority", id="priority"),
    pytest.param({"input": "x", "normalize": True}, "invalid_input", "normalize", id="unknown"),
]


@pytest.mark.parametrize(("body", "code", "field"), BAD)
async def test_what_cannot_be_scored_is_refused_by_name(
    server: Running, body: Any, code: str, field: str | None
) -> None:
    for path in ROUTES:
        refused(await server.post(path, body), 422, code, field)


async def test_other_pooling_tasks_are_refused(server: Running) -> None:
    answer = await server.post("/pooling", {"input": TEXTS[0], "task": "embed"})
    refused(answer, 422, "invalid_input", "task")
