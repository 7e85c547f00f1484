"""What comes out of the routes is what the scorer says."""

import hashlib
import math
import struct
from typing import Any

import pytest

from rm_core.calibration import Calibration
from rm_core.scorer import Scorer
from rm_core.types import Conversation, ImagePart, ScoreGroup, TextPart, Turn
from tests.service.serving import (
    ANSWERS,
    QUESTION,
    TOLERANCE,
    Interrupted,
    Running,
    asked,
    data_url,
    opened,
    png,
    serving,
)

RED, BLUE = png(colour="red"), png(100, 60, "blue", "JPEG")


def short(**changes: Any) -> dict[str, Any]:
    images = [data_url(RED), data_url(BLUE, "jpeg")]
    return {"prompt": QUESTION, "images": images, "responses": list(ANSWERS)} | changes


def part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


async def test_score_is_the_scorers_own(server: Running, random_scorer: Scorer) -> None:
    answer = await server.post("/score", short())
    assert answer.status_code == 200
    body = answer.json()
    expected = random_scorer.score([asked(QUESTION, ANSWERS, RED, BLUE)])[0]
    assert [row["score"] for row in body["scores"]] == pytest.approx(expected, abs=TOLERANCE)
    assert [row["index"] for row in body["scores"]] == [0, 1, 2]
    assert all(row["normalized"] is None for row in body["scores"])
    info = random_scorer.info
    assert body["model"] == {"name": info.name, "revision": info.revision}
    assert body["id"].startswith("score-")


async def test_usage_counts_what_was_computed(server: Running, random_scorer: Scorer) -> None:
    body = (await server.post("/score", short())).json()
    encoded = random_scorer.encode(asked(QUESTION, ANSWERS, RED, BLUE))
    assert body["usage"] == {
        "prompt_tokens": encoded.prompt_tokens,
        "image_tokens": encoded.image_tokens,
        "response_tokens": sum(encoded.answer_tokens),
        "computed_tokens": encoded.num_tokens,
    }
    assert [row["tokens"] for row in body["scores"]] == list(encoded.answer_tokens)


async def test_messages_say_the_same_as_the_short_form(server: Running) -> None:
    content = [part(data_url(RED)), part(data_url(BLUE)), {"type": "text", "text": QUESTION}]
    long = {"messages": [{"role": "user", "content": content}], "responses": list(ANSWERS)}
    assert (await server.post("/score", long)).json()["scores"] == (
        await server.post("/score", short())
    ).json()["scores"]


async def test_system_and_earlier_turns_are_part_of_the_prompt(
    server: Running, random_scorer: Scorer
) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [part(data_url(RED)), {"type": "text", "text": QUESTION}]},
        {"role": "assistant", "content": "Something red."},
        {"role": "user", "content": "What exactly?"},
    ]
    turns = (
        Turn("system", (TextPart("Be brief."),)),
        Turn("user", (ImagePart(opened(RED)), TextPart(QUESTION))),
        Turn("assistant", (TextPart("Something red."),)),
        Turn("user", (TextPart("What exactly?"),)),
    )
    body = (await server.post("/score", {"messages": messages, "response": "A wall."})).json()
    expected = random_scorer.score([ScoreGroup(Conversation(turns), ("A wall.",))])[0]
    assert [row["score"] for row in body["scores"]] == pytest.approx(expected, abs=TOLERANCE)


async def test_one_response_is_a_list_of_one(server: Running) -> None:
    alone = short(response=ANSWERS[0])
    del alone["responses"]
    listed = short(responses=[ANSWERS[0]])
    assert (await server.post("/score", alone)).json()["scores"] == (
        await server.post("/score", listed)
    ).json()["scores"]


async def test_an_uploaded_picture_scores_as_the_sent_one(server: Running) -> None:
    digest = hashlib.sha256(RED).hexdigest()
    headers = {"content-type": "image/png"}
    stored = await server.client.put(f"/images/{digest}", content=RED, headers=headers)
    again = await server.client.put(f"/images/{digest}", content=RED, headers=headers)
    assert (stored.status_code, again.status_code) == (201, 200)
    assert stored.json() == {"image": f"sha256:{digest}", "bytes": len(RED)}
    by_digest = await server.post("/score", short(images=[f"sha256:{digest}"]))
    by_value = await server.post("/score", short(images=[data_url(RED)]))
    assert by_digest.json()["scores"] == by_value.json()["scores"]


def pair(a: str, b: str) -> dict[str, Any]:
    return {"prompt": QUESTION, "images": [data_url(RED)], "response_a": a, "response_b": b}


async def test_compare_says_what_the_scores_say(server: Running, random_scorer: Scorer) -> None:
    body = (await server.post("/compare", pair(*ANSWERS[:2]))).json()
    a, b = random_scorer.score([asked(QUESTION, ANSWERS[:2], RED)])[0]
    assert (body["score_a"], body["score_b"]) == pytest.approx((a, b), abs=TOLERANCE)
    assert body["margin"] == body["score_a"] - body["score_b"]
    assert body["probability_a"] == pytest.approx(1 / (1 + math.exp(-body["margin"])))
    assert body["verdict"] == ("a" if a > b else "b")
    assert body["calibrated"] is False


async def test_swapping_the_answers_negates_the_margin_exactly(server: Running) -> None:
    one = (await server.post("/compare", pair(*ANSWERS[:2]))).json()
    other = (await server.post("/compare", pair(*ANSWERS[1::-1]))).json()
    assert one["margin"] == -other["margin"]
    assert {one["verdict"], other["verdict"]} == {"a", "b"}


async def test_equal_answers_tie_exactly(server: Running) -> None:
    body = (await server.post("/compare", pair("yes", "yes"))).json()
    assert (body["margin"], body["probability_a"], body["verdict"]) == (0, 0.5, "tie")


async def test_rank_is_best_first_and_equal_scores_share_a_rank(server: Running) -> None:
    answers = [ANSWERS[0], ANSWERS[1], ANSWERS[0], ANSWERS[2]]
    scores = (await server.post("/score", short(responses=answers))).json()["scores"]
    body = (await server.post("/rank", short(responses=answers))).json()
    ranking = body["ranking"]
    assert [row["score"] for row in ranking] == sorted((r["score"] for r in scores), reverse=True)
    assert all(row["score"] == scores[row["index"]]["score"] for row in ranking)
    assert body["best"] == ranking[0]["index"]
    ranks = {row["index"]: row["rank"] for row in ranking}
    assert ranks[0] == ranks[2]
    assert sorted(ranks.values()) in ([1, 1, 3, 4], [1, 2, 2, 4], [1, 2, 3, 3])


async def test_calibration_reaches_every_route(random_scorer: Scorer) -> None:
    calibrated = Interrupted(random_scorer, lambda groups: None)
    calibrated.calibration = Calibration(mean=1.0, std=2.0, temperature=4.0, tie_band=1e9)
    async with serving(calibrated) as server:
        scores = (await server.post("/score", short())).json()["scores"]
        compared = (await server.post("/compare", pair("yes", "no"))).json()
        ranking = (await server.post("/rank", short())).json()["ranking"]
    assert all(row["normalized"] == (row["score"] - 1.0) / 2.0 for row in scores + ranking)
    assert compared["probability_a"] == pytest.approx(1 / (1 + math.exp(-compared["margin"] / 4)))
    assert (compared["verdict"], compared["calibrated"]) == ("tie", True)


async def test_a_score_is_sent_with_every_bit_of_its_float32(server: Running) -> None:
    body = (await server.post("/score", short())).json()
    for row in body["scores"]:
        assert struct.unpack("f", struct.pack("f", row["score"]))[0] == row["score"]
