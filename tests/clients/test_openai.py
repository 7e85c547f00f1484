"""The `openai` package's embeddings call, which asks for base64 (run by `make test-clients`)."""

import importlib

import pytest

from rm_core.scorer import Scorer
from tests.service.foreign import expected, templated
from tests.service.serving import ANSWERS, QUESTION, TOLERANCE, Running


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}])
async def test_embeddings_hold_the_raw_scores(
    address: tuple[Running, str], random_scorer: Scorer, encoding: dict[str, str]
) -> None:
    openai = importlib.import_module("openai")
    async with openai.AsyncOpenAI(base_url=f"http://{address[1]}/v1", api_key="none") as client:
        texts = [templated(QUESTION, answer) for answer in ANSWERS]
        answer = await client.embeddings.create(model="any", input=texts, **encoding)
    wanted = expected(random_scorer, QUESTION, ANSWERS)
    assert [row.embedding[-1] for row in answer.data] == pytest.approx(wanted, abs=TOLERANCE)
