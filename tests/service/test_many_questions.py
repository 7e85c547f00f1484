"""Many questions in one request: one permit, each prompt once, in order, all or nothing."""

from typing import Any

import pytest

from rm_core.packing import PackedBatch
from rm_core.scorer import Scorer
from tests.service.foreign import expected, ok, refused, templated
from tests.service.serving import ANSWERS, TOLERANCE, Interrupted, Running, data_url, png, serving

RED = png(colour="red")
QUESTIONS = ("What is shown?", "Which colour?", "How many?")


def queries(*pairs: tuple[int, int]) -> list[str]:
    return [templated(QUESTIONS[q], ANSWERS[a]) for q, a in pairs]


def computed(server: Running, kind: str) -> float:
    value = server.parts.metrics.registry.get_sample_value("vlrm_tokens_total", {"kind": kind})
    assert value is not None
    return value


PAIRS = ((0, 0), (1, 0), (0, 1), (2, 2), (1, 1), (0, 0))


async def test_results_are_in_order_and_each_prompt_is_computed_once(
    random_scorer: Scorer,
) -> None:
    watched = Interrupted(random_scorer, lambda groups: None)
    async with serving(watched) as server:
        body = await ok(server, "/get_reward", {"query": queries(*PAIRS)})
        assert computed(server, "shared") > 0
    assert sum(watched.batches) == 3, "one group a prompt"
    wanted = [expected(random_scorer, QUESTIONS[q], [ANSWERS[a]])[0] for q, a in PAIRS]
    assert body["rewards"] == pytest.approx(wanted, abs=TOLERANCE)
    assert body["rewards"][0] == body["rewards"][5], "equal questions tie exactly"


async def test_a_request_takes_one_permit(random_scorer: Scorer) -> None:
    held: list[int] = []
    watched = Interrupted(
        random_scorer, lambda groups: held.append(server.parts.admission.in_flight)
    )
    async with serving(watched, max_in_flight=1) as server:
        await ok(server, "/get_reward", {"query": queries(*PAIRS)})
    assert set(held) == {1}


async def test_a_shared_prompt_never_makes_a_request_too_large(random_scorer: Scorer) -> None:
    """Each question fits the budget alone, all answers to one prompt together do not."""
    answers = [f"word {n} " * 12 for n in range(6)]
    texts = [templated(QUESTIONS[0], answer) for answer in answers]
    watched = Interrupted(random_scorer, lambda groups: None)
    async with serving(watched, max_batch_tokens=400) as server:
        body = await ok(server, "/get_reward", {"query": texts})
    assert sum(watched.batches) > 1
    wanted = expected(random_scorer, QUESTIONS[0], answers)
    assert body["rewards"] == pytest.approx(wanted, abs=TOLERANCE)


async def test_one_that_is_too_long_alone_is_named(random_scorer: Scorer) -> None:
    watched = Interrupted(random_scorer, lambda groups: None)
    async with serving(watched, max_batch_tokens=400) as server:
        texts = [*queries((0, 0), (0, 1)), templated(QUESTIONS[0], "word " * 100)]
        answer = await server.post("/get_reward", {"query": texts})
        refused(answer, 413, "too_much_work", "query[2]")
    assert watched.batches == [], "nothing was computed for a request that is refused"


async def test_a_picture_counts_once_for_each_prompt(random_scorer: Scorer) -> None:
    texts = [templated(QUESTIONS[q], ANSWERS[a], RED) for q, a in PAIRS]
    body = {"query": texts, "labels": [{"images": [data_url(RED)]} for _ in texts]}
    async with serving(random_scorer, max_request_pixels=3 * 60 * 48, max_images=3) as server:
        found = await ok(server, "/get_reward", body)
    wanted = [expected(random_scorer, QUESTIONS[q], [ANSWERS[a]], RED)[0] for q, a in PAIRS]
    assert found["rewards"] == pytest.approx(wanted, abs=TOLERANCE)
    async with serving(random_scorer, max_request_pixels=3 * 60 * 48 - 1) as server:
        answer = await server.post("/get_reward", body)
        refused(answer, 413, "too_many_pixels", "labels[3].images[0]")


async def test_one_picture_named_many_times_is_many_pictures(server: Running) -> None:
    text = templated(QUESTIONS[0], ANSWERS[0], *[RED] * 65)
    body = {"query": [text], "labels": [{"images": ["sha256:" + "0" * 64] * 65}]}
    refused(await server.post("/get_reward", body), 422, "too_many_images", None)


def pictured(count: int) -> dict[str, Any]:
    pictures = [png(28 + n, 28) for n in range(count)]
    return {
        "query": [templated(QUESTIONS[0], ANSWERS[0], picture) for picture in pictures],
        "labels": [{"images": [data_url(picture)]} for picture in pictures],
    }


@pytest.mark.parametrize(
    ("limits", "body", "status", "code"),
    [
        pytest.param(
            {"max_responses": 5},
            {"query": queries(*PAIRS)},
            422,
            "too_many_responses",
            id="answers",
        ),
        pytest.param({"max_images": 2}, pictured(3), 422, "too_many_images", id="pictures"),
        pytest.param(
            {"max_text_chars": 100}, {"query": queries(*PAIRS)}, 413, "text_too_long", id="text"
        ),
    ],
)
async def test_limits_hold_for_the_whole_request(
    random_scorer: Scorer, limits: dict[str, Any], body: Any, status: int, code: str
) -> None:
    async with serving(random_scorer, **limits) as server:
        refused(await server.post("/get_reward", body), status, code, None)


async def test_a_failed_batch_is_one_error_and_the_next_request_works(
    random_scorer: Scorer,
) -> None:
    fail = [True]

    def failing(_batch: PackedBatch) -> None:
        if fail:
            raise RuntimeError("device lost")

    async with serving(Interrupted(random_scorer, failing)) as server:
        answer = await server.post("/get_reward", {"query": queries(*PAIRS)})
        refused(answer, 500, "forward_failed", None)
        fail.clear()
        assert server.parts.admission.in_flight == 0
        await ok(server, "/get_reward", {"query": queries(*PAIRS)})


async def test_a_passed_deadline_is_504(random_scorer: Scorer) -> None:
    async with serving(random_scorer) as server:
        answer = await server.post("/get_reward", {"query": queries(*PAIRS)}, x_deadline_ms="1")
        refused(answer, 504, "deadline_passed", None)


async def test_server_timing_says_where_the_time_went(server: Running) -> None:
    answer = await server.post("/get_reward", {"query": queries(*PAIRS)})
    stages = {
        stage.split(";dur=")[0]: float(stage.split(";dur=")[1])
        for stage in answer.headers["server-timing"].split(", ")
    }
    assert stages["prepare"] > 0
    assert stages["forward"] > 0
