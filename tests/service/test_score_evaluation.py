"""POST /v1/score/evaluation: LLaMA-Factory's texts in, raw scores out."""

from typing import Any

import pytest

from rm_core.scorer import Scorer
from tests.service.foreign import MODEL, expected, ok, refused, templated
from tests.service.serving import ANSWERS, QUESTION, TOLERANCE, Running, asked, png

PATH = "/v1/score/evaluation"
TEXTS = [templated(QUESTION, answer) for answer in ANSWERS]


async def test_scores_are_the_scorers_own(server: Running, random_scorer: Scorer) -> None:
    body = await ok(server, PATH, {"model": MODEL, "messages": TEXTS})
    assert body["scores"] == pytest.approx(
        expected(random_scorer, QUESTION, ANSWERS), abs=TOLERANCE
    )
    assert body["id"].startswith("scoreval-")
    assert (body["object"], body["model"]) == ("score.evaluation", random_scorer.info.name)


async def test_max_length_is_a_limit(server: Running, random_scorer: Scorer) -> None:
    tokens = random_scorer.encode(asked(QUESTION, ANSWERS)).longest
    await ok(server, PATH, {"messages": TEXTS, "max_length": tokens})
    answer = await server.post(PATH, {"messages": TEXTS, "max_length": tokens - 1})
    refused(answer, 413, "too_many_tokens", "messages[2]")


@pytest.mark.parametrize(
    ("messages", "code", "field"),
    [
        pytest.param([], "invalid_input", "messages", id="none"),
        pytest.param(TEXTS[0], "invalid_input", "messages", id="no_list"),
        pytest.param([TEXTS[0], "4"], "invalid_input", "messages[1]", id="plain_text"),
        pytest.param(
            [templated(QUESTION, "x", png())], "picture_missing", "messages[0]", id="blind"
        ),
    ],
)
async def test_bad_requests_name_the_item(
    server: Running, messages: Any, code: str, field: str
) -> None:
    refused(await server.post(PATH, {"messages": messages}), 422, code, field)
