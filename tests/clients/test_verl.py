"""verl's own reward loop client against a real server (run by `make test-clients`)."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rm_core.scorer import Scorer
from service.adapters import verl as adapter
from tests.service.foreign import expected, overloads, templated
from tests.service.serving import ANSWERS, QUESTION, TOLERANCE, Running, png, until

Address = tuple[Running, str]


def worker(verl: Any, where: str, engine: str, text: str) -> Any:
    """A RewardLoopWorker that was given its prompt instead of a batch of tensors."""
    made = object.__new__(verl.RewardLoopWorker)
    rollout = SimpleNamespace(name=engine)
    reward_model = SimpleNamespace(rollout=rollout, model_path="any/name")
    made.config = SimpleNamespace(reward=SimpleNamespace(reward_model=reward_model))
    made.reward_router_address = where

    async def prompt(data: Any) -> str:
        return text

    made._preprocess_reward_inputs = prompt
    return made


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
async def test_both_engines_routes_give_the_raw_score(
    verl: Any, address: Address, random_scorer: Scorer, engine: str
) -> None:
    text = templated(QUESTION, ANSWERS[0])
    score = await worker(verl, address[1], engine, text).compute_score_disrm(None)
    (wanted,) = expected(random_scorer, QUESTION, ANSWERS[:1])
    assert score == {"reward_score": pytest.approx(wanted, abs=TOLERANCE)}


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
async def test_overload_is_waited_out(verl: Any, address: Address, engine: str) -> None:
    """A 429 would end the run at once: this client retries 5xx only."""
    running, where = address
    running.parts.admission.limit = 1
    caller = worker(verl, where, engine, templated(QUESTION, ANSWERS[0]))
    with running.parts.admission.permit():
        scoring = asyncio.create_task(caller.compute_score_disrm(None))
        await until(lambda: overloads(running) > 0)
    assert isinstance((await scoring)["reward_score"], float)


class Tensor(list[int]):
    """As much of a tensor as the reward manager asks for."""

    @property
    def shape(self) -> tuple[int]:
        return (len(self),)


class Batch(list[Any]):
    """verl's DataProto as a list of samples that can be sliced."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return Batch(found) if isinstance(key, slice) else found


async def test_its_reward_manager_calls_our_function(
    verl_manager: Any,
    address: Address,
    random_scorer: Scorer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The naive manager with `custom_reward_function`; characters are the tokens."""
    monkeypatch.setenv("REWARD_URL", f"http://{address[1]}")
    tokens = [ord(c) for c in ANSWERS[0]]
    sample = SimpleNamespace(
        batch={"responses": Tensor(tokens), "attention_mask": np.ones(len(tokens), int)},
        non_tensor_batch={
            "data_source": "x",
            "reward_model": {"ground_truth": ""},
            "extra_info": {
                "prompt": np.array([{"role": "user", "content": QUESTION}]),
                "images": np.array([png()], object),
            },
        },
    )
    decoder = SimpleNamespace(decode=lambda ids, **_: "".join(map(chr, ids)))
    manager = verl_manager.NaiveRewardManager(None, decoder, adapter.compute_score)
    result = await manager.run_single(Batch([sample]))
    (wanted,) = expected(random_scorer, QUESTION, ANSWERS[:1], png())
    assert result["reward_score"] == pytest.approx(wanted, abs=TOLERANCE)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
async def test_a_picture_that_is_not_there_ends_the_call_at_once(
    verl: Any, address: Address, engine: str
) -> None:
    caller = worker(verl, address[1], engine, templated(QUESTION, ANSWERS[0], png()))
    with pytest.raises(Exception, match="422"):
        await asyncio.wait_for(caller.compute_score_disrm(None), 5)
