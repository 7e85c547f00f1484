"""The exact requests of clients, byte for byte, for runs without the clients themselves.

OpenRLHF 0.11.2 (`openrlhf/utils/agent.py`, `_fetch_rewards_via_http`) and verl 0.9.1
(`verl/experimental/reward_loop/reward_loop.py`, `compute_score_disrm`) post with aiohttp, whose
`json=` is `json.dumps`; the bodies below were written from their sources. LLaMA-Factory has no
client; its `ScoreEvaluationRequest` is what its users post. `tests/clients` runs the real code.
"""

import json
from typing import Any

import pytest

from rm_core.scorer import Scorer
from tests.service.foreign import expected, templated
from tests.service.serving import ANSWERS, QUESTION, TOLERANCE, Running

AIOHTTP = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "Python/3.11 aiohttp/3.14.5",
    "Content-Type": "application/json",
}
TEXT = json.dumps(templated(QUESTION, ANSWERS[0]))
SENT = {
    "openrlhf": ("/get_reward", f'{{"query": [{TEXT}], "prompts": ["x"], "labels": [""]}}'),
    "openrlhf_0.5": ("/get_reward", f'{{"query": [{TEXT}]}}'),
    "verl_vllm": ("/classify", f'{{"model": "/m", "input": {TEXT}, "use_activation": false}}'),
    "verl_sglang": ("/v1/embeddings", f'{{"model": "/m", "input": {TEXT}}}'),
    "llamafactory": ("/v1/score/evaluation", f'{{"model": "m", "messages": [{TEXT}]}}'),
}


def read(path: str, body: dict[str, Any]) -> float:
    """The number each client takes out of the answer."""
    match path:
        case "/get_reward":
            found = body["rewards"][0]
        case "/classify":
            found = body["data"][-1]["probs"][-1]
        case "/v1/embeddings":
            found = body["data"][-1]["embedding"][-1]
        case _:
            found = body["scores"][0]
    return float(found)


@pytest.mark.parametrize("client", SENT)
async def test_what_a_client_sends_gets_the_score_it_reads(
    server: Running, random_scorer: Scorer, client: str
) -> None:
    path, data = SENT[client]
    answer = await server.client.post(path, content=data.encode(), headers=AIOHTTP)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    (wanted,) = expected(random_scorer, QUESTION, ANSWERS[:1])
    assert read(path, answer.json()) == pytest.approx(wanted, abs=TOLERANCE)
