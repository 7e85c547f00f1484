"""POST /rerank: documents are answers to the query, best first."""

import math
from typing import Any

import pytest

from rm_core.scorer import Scorer
from tests.service.foreign import MODEL, expected, ok, refused
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

RED = png(colour="red")
PICTURE = {"type": "image_url", "image_url": {"url": data_url(RED)}}
TEXT = {"type": "text", "text": QUESTION}


def body(**changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "query": QUESTION, "documents": list(ANSWERS)} | changes


async def test_documents_come_back_best_first(server: Running, random_scorer: Scorer) -> None:
    answer = await ok(server, "/rerank", body(use_activation=False))
    wanted = expected(random_scorer, QUESTION, ANSWERS)
    results = answer["results"]
    assert sorted(row["index"] for row in results) == [0, 1, 2]
    for row in results:
        assert row["relevance_score"] == pytest.approx(wanted[row["index"]], abs=TOLERANCE)
        assert row["document"] == {"text": ANSWERS[row["index"]]}
    scores = [row["relevance_score"] for row in results]
    assert scores == sorted(scores, reverse=True)


async def test_scores_are_sigmoids_by_default(server: Running) -> None:
    plain = (await ok(server, "/rerank", body(use_activation=False)))["results"]
    squashed = (await ok(server, "/rerank", body()))["results"]
    assert [row["index"] for row in plain] == [row["index"] for row in squashed]
    for a, b in zip(plain, squashed, strict=True):
        assert b["relevance_score"] == pytest.approx(1 / (1 + math.exp(-a["relevance_score"])))


@pytest.mark.parametrize(("top_n", "kept"), [(None, 3), (0, 3), (1, 1), (2, 2), (9, 3)])
async def test_top_n_keeps_the_best(server: Running, top_n: int | None, kept: int) -> None:
    every = (await ok(server, "/rerank", body()))["results"]
    assert (await ok(server, "/rerank", body(top_n=top_n)))["results"] == every[:kept]


async def test_a_query_with_a_picture_is_one_group(random_scorer: Scorer) -> None:
    watched = Interrupted(random_scorer, lambda groups: None)
    async with serving(watched) as server:
        asked = body(query={"content": [PICTURE, TEXT]}, use_activation=False)
        results = (await ok(server, "/rerank", asked))["results"]
    wanted = expected(random_scorer, QUESTION, ANSWERS, RED)
    for row in results:
        assert row["relevance_score"] == pytest.approx(wanted[row["index"]], abs=TOLERANCE)
    assert watched.batches == [1]


async def test_documents_in_every_form_are_the_same_answer(server: Running) -> None:
    forms = [ANSWERS[0], {"text": ANSWERS[0]}, {"content": ANSWERS[0]}]
    forms.append({"content": [{"type": "text", "text": ANSWERS[0]}]})
    results = (await ok(server, "/rerank", body(documents=forms)))["results"]
    assert len({row["relevance_score"] for row in results}) == 1
    assert [row["index"] for row in results] == [0, 1, 2, 3], "ties keep the given order"


async def test_documents_can_be_left_out_of_the_answer(server: Running) -> None:
    answer = await ok(server, "/rerank", body(return_documents=False))
    assert all(row.keys() == {"index", "relevance_score"} for row in answer["results"])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"query": ""}, "query", id="empty_query"),
        pytest.param({"query": None}, "query", id="no_query"),
        pytest.param({"documents": []}, "documents", id="no_documents"),
        pytest.param({"documents": ["a", ""]}, "documents[1]", id="empty_document"),
        pytest.param({"documents": ["a", 1]}, "documents[1]", id="document_is_a_number"),
        pytest.param(
            {"documents": ["a", {"content": [PICTURE]}]},
            "documents[1].content[0]",
            id="picture_in_a_document",
        ),
        pytest.param({"top_n": -1}, "top_n", id="negative_top_n"),
        pytest.param({"max_tokens_per_doc": 9}, "max_tokens_per_doc", id="truncation"),
        pytest.param({"rank": 1}, "rank", id="unknown_key"),
    ],
)
async def test_bad_requests_name_the_field(
    server: Running, changes: dict[str, Any], field: str
) -> None:
    refused(await server.post("/rerank", body(**changes)), 422, "invalid_input", field)
