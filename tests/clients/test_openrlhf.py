"""OpenRLHF's own remote reward client against a real server (run by `make test-clients`)."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rm_core.scorer import Scorer
from service.adapters import openrlhf as adapter
from tests.service.foreign import expected, overloads, templated
from tests.service.serving import ANSWERS, QUESTION, TOLERANCE, Running, data_url, png, until

RED = png(colour="red")
Address = tuple[Running, str]


class Tokenizer:
    """As much of a tokenizer as the client asks for: characters are the tokens."""

    def __call__(self, text: str, **_: Any) -> dict[str, Any]:
        return {"input_ids": [SimpleNamespace(tolist=lambda: [ord(c) for c in text])]}

    def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
        assert not skip_special_tokens
        return "".join(map(chr, tokens))


class Engine:
    """A rollout engine that always says the same."""

    def __init__(self, says: str) -> None:
        self.says = says

    async def generate(self, *_: Any, **__: Any) -> Any:
        tokens = [ord(c) for c in self.says]
        return SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=tokens, finish_reason="stop", logprobs=None)]
        )


async def rollout(openrlhf: Any, url: str, prompt: str, says: str, label: Any = "") -> Any:
    executor = openrlhf.SingleTurnAgentExecutor(url)
    sampling = SimpleNamespace(max_tokens=100, logprobs=None)
    return await executor.execute(prompt, label, sampling, 10_000, Tokenizer(), Engine(says))


def prompt_of(query: str) -> str:
    header = "<|im_start|>assistant\n"
    return query[: query.rindex(header) + len(header)]


async def test_a_rollout_gets_its_reward(
    openrlhf: Any, address: Address, random_scorer: Scorer
) -> None:
    url = f"http://{address[1]}/get_reward"
    query = templated(QUESTION, ANSWERS[0])
    sample = await rollout(openrlhf, url, prompt_of(query), ANSWERS[0] + "<|im_end|>")
    wanted = expected(random_scorer, QUESTION, ANSWERS[:1])
    assert sample["reward"] == pytest.approx(wanted, abs=TOLERANCE)
    assert 0 < sample["scores"][0] < 1
    assert sample["extra_logs"]["reward_raw"] == sample["reward"]


async def test_a_rollout_with_a_picture_in_its_label(
    openrlhf: Any, address: Address, random_scorer: Scorer
) -> None:
    url = f"http://{address[1]}/get_reward"
    label = json.dumps({"images": [data_url(RED)]})
    prompt = prompt_of(templated(QUESTION, "x", RED, pads=4))
    sample = await rollout(openrlhf, url, prompt, ANSWERS[0] + "<|im_end|>", label)
    wanted = expected(random_scorer, QUESTION, ANSWERS[:1], RED)
    assert sample["reward"] == pytest.approx(wanted, abs=TOLERANCE)
    blind = await asyncio.wait_for(fetch(openrlhf, url, prompt), 20)
    assert isinstance(blind, RuntimeError)


async def fetch(openrlhf: Any, url: str, prompt: str) -> Any:
    """What the client's own call ends with; its caller would only log it."""
    executor = openrlhf.SingleTurnAgentExecutor(url)
    try:
        return await executor._fetch_rewards_via_http([prompt + "x"], [prompt], [""])
    except RuntimeError as error:
        return error


async def test_several_queries_and_servers(
    openrlhf: Any, address: Address, random_scorer: Scorer
) -> None:
    executor = openrlhf.SingleTurnAgentExecutor([f"http://{address[1]}/get_reward"] * 2)
    queries = [templated(QUESTION, answer) for answer in ANSWERS]
    shards = await executor._fetch_rewards_via_http(queries, [""] * 3, [""] * 3)
    rewards = [reward for shard in shards for reward in shard["rewards"]]
    assert rewards == pytest.approx(expected(random_scorer, QUESTION, ANSWERS), abs=TOLERANCE)


async def test_our_reward_function_is_loaded_by_its_path(
    openrlhf: Any,
    address: Address,
    random_scorer: Scorer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`--reward.remote_url` with the adapter's file; the picture is a local file."""
    monkeypatch.setenv("REWARD_URL", f"http://{address[1]}")
    (tmp_path / "red.png").write_bytes(RED)
    prompt = prompt_of(templated(QUESTION, "x", RED, pads=4))
    label = {"images": [str(tmp_path / "red.png")]}
    sample = await rollout(openrlhf, adapter.__file__, prompt, ANSWERS[0] + "<|im_end|>", label)
    wanted = expected(random_scorer, QUESTION, ANSWERS[:1], RED)
    assert sample["reward"] == pytest.approx(wanted, abs=TOLERANCE)


async def test_overload_is_waited_out(openrlhf: Any, address: Address) -> None:
    running, where = address
    query = templated(QUESTION, ANSWERS[0])
    running.parts.admission.limit = 1
    executor = openrlhf.SingleTurnAgentExecutor(f"http://{where}/get_reward")
    with running.parts.admission.permit():
        fetching = asyncio.create_task(executor._fetch_rewards_via_http([query], [""], [""]))
        await until(lambda: overloads(running) > 0)
    (body,) = await fetching
    assert len(body["rewards"]) == 1
