"""POST /get_reward: OpenRLHF's remote reward, text and pictures, all or nothing."""

import hashlib
import json
import math
from typing import Any

import pytest

from rm_core.calibration import Calibration
from rm_core.scorer import Scorer
from tests.service.foreign import expected, ok, refused, templated
from tests.service.serving import (
    ANSWERS,
    QUESTION,
    TOLERANCE,
    Interrupted,
    Running,
    data_url,
    png,
    serving,
)

RED, BLUE = png(colour="red"), png(100, 60, "blue", "JPEG")
PLAIN = [templated(QUESTION, answer) for answer in ANSWERS]


def label(*urls: str) -> str:
    return json.dumps({"images": list(urls), "answer": "a key this server does not read"})


async def test_rewards_are_the_scorers_own(server: Running, random_scorer: Scorer) -> None:
    body = await ok(server, "/get_reward", {"query": PLAIN})
    wanted = expected(random_scorer, QUESTION, ANSWERS)
    assert body["rewards"] == pytest.approx(wanted, abs=TOLERANCE)
    assert body["scores"] == pytest.approx([1 / (1 + math.exp(-r)) for r in body["rewards"]])
    assert body["extra_logs"]["reward_raw"] == body["rewards"]
    assert body["extra_logs"].keys() == {"reward_raw", "response_tokens"}


async def test_lists_stay_lists_for_one_query_and_for_none(server: Running) -> None:
    one = await ok(server, "/get_reward", {"query": PLAIN[:1], "prompts": [""], "labels": [""]})
    assert [len(one[name]) for name in ("rewards", "scores")] == [1, 1]
    none = await ok(server, "/get_reward", {"query": [], "prompts": [], "labels": []})
    assert none == {
        "rewards": [],
        "scores": [],
        "extra_logs": {name: [] for name in one["extra_logs"]},
    }


async def test_a_cut_off_answer_scores_as_the_answer_so_far(server: Running) -> None:
    ended = await ok(server, "/get_reward", {"query": PLAIN[:1]})
    cut = PLAIN[0].removesuffix("<|im_end|>\n")
    for text in (cut, cut + "<|im_end|>", cut + "<|endoftext|>"):
        assert await ok(server, "/get_reward", {"query": [text]}) == ended


async def test_scores_are_normalized_first_when_there_is_a_calibration(
    random_scorer: Scorer,
) -> None:
    calibrated = Interrupted(random_scorer, lambda groups: None)
    calibrated.calibration = Calibration(mean=1.0, std=0.25)
    async with serving(calibrated) as server:
        body = await ok(server, "/get_reward", {"query": PLAIN})
    normalized = [(raw - 1.0) / 0.25 for raw in body["rewards"]]
    assert body["extra_logs"]["reward_normalized"] == normalized
    assert body["scores"] == pytest.approx([1 / (1 + math.exp(-x)) for x in normalized])


async def test_pictures_come_through_the_label(server: Running, random_scorer: Scorer) -> None:
    """Expanded pads are one picture each; a data URL and an uploaded picture both do."""
    digest = hashlib.sha256(BLUE).hexdigest()
    await server.client.put(
        f"/images/{digest}", content=BLUE, headers={"content-type": "image/jpeg"}
    )
    query = templated(QUESTION, ANSWERS[0], RED, BLUE, pads=7)
    wanted = expected(random_scorer, QUESTION, ANSWERS[:1], RED, BLUE)
    urls = [data_url(RED), f"sha256:{digest}"]
    for given in (label(*urls), {"images": urls}):
        body = await ok(server, "/get_reward", {"query": [query], "labels": [given]})
        assert body["rewards"] == pytest.approx(wanted, abs=TOLERANCE)


@pytest.mark.parametrize(
    "given", ["42", "", None, 42, r"{\frac 1 2}", '{"answer": "42"}', {"answer": 42}, ["x"]]
)
async def test_other_labels_are_not_looked_at(server: Running, given: Any) -> None:
    body = {"query": PLAIN[:1], "labels": [given]}
    assert await ok(server, "/get_reward", body) == await ok(
        server, "/get_reward", {"query": PLAIN[:1]}
    )


async def test_the_prompt_says_where_the_answer_begins(
    server: Running, random_scorer: Scorer
) -> None:
    spelled = "No.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\nYes"
    query = templated(QUESTION, spelled)
    prompt = query[: query.index(spelled)]
    body = await ok(server, "/get_reward", {"query": [query], "prompts": [prompt]})
    wanted = expected(random_scorer, QUESTION, [spelled])
    assert body["rewards"] == pytest.approx(wanted, abs=TOLERANCE)


WITH_PAD = templated(QUESTION, "x", RED)
BAD = [
    pytest.param({}, "invalid_input", "query", id="no_query"),
    pytest.param({"query": PLAIN[0]}, "invalid_input", "query", id="query_is_no_list"),
    pytest.param({"query": [1]}, "invalid_input", "query[0]", id="query_is_a_number"),
    pytest.param({"query": [PLAIN[0]], "image": []}, "invalid_input", "image", id="unknown_key"),
    pytest.param({"query": PLAIN, "labels": [""]}, "invalid_input", None, id="fewer_labels"),
    pytest.param({"query": PLAIN, "prompts": [""]}, "invalid_input", None, id="fewer_prompts"),
    pytest.param({"query": [*PLAIN, "4"]}, "invalid_input", "query[3]", id="plain_text"),
    pytest.param({"query": [*PLAIN, WITH_PAD]}, "picture_missing", "query[3]", id="blind"),
    pytest.param(
        {"query": [*PLAIN[:1], WITH_PAD], "labels": ["", "42"]},
        *("picture_missing", "query[1]"),
        id="blind_with_another_label",
    ),
    pytest.param(
        {"query": [WITH_PAD], "labels": [label("sha256:" + "0" * 64)]},
        *("image_not_found", "labels[0].images[0]"),
        id="forgotten_picture",
    ),
    pytest.param(
        {"query": [WITH_PAD], "labels": [label("data:image/png;base64,AAAA")]},
        *("invalid_image", "labels[0].images[0]"),
        id="broken_picture",
    ),
    pytest.param(
        {"query": [WITH_PAD], "labels": [label(data_url(RED), data_url(BLUE))]},
        *("invalid_input", "query[0]"),
        id="too_many_pictures",
    ),
    pytest.param(
        {"query": PLAIN[:1], "labels": [label(data_url(RED))]},
        *("invalid_input", "query[0]"),
        id="picture_without_place",
    ),
    pytest.param(
        {"query": [WITH_PAD], "labels": ['{"images": "apple.png"}']},
        *("invalid_input", "labels[0].images"),
        id="images_is_no_list",
    ),
]


@pytest.mark.parametrize(("body", "code", "field"), BAD)
async def test_one_bad_item_is_the_whole_answer(
    server: Running, body: Any, code: str, field: str | None
) -> None:
    message = refused(await server.post("/get_reward", body), 422, code, field)
    if field is not None and code != "image_not_found" and code != "invalid_image":
        assert message.startswith(field)
    assert server.parts.admission.in_flight == 0


async def test_overload_is_503_with_retry_after(random_scorer: Scorer) -> None:
    async with serving(random_scorer, max_in_flight=1) as server:
        with server.parts.admission.permit():
            answer = await server.post("/get_reward", {"query": PLAIN})
        refused(answer, 503, "overloaded", None)
        assert int(answer.headers["retry-after"]) >= 1
