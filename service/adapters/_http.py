"""The reward of each completion, from a running server; the only file here that speaks HTTP."""

import asyncio
import json
import os
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeVar

import httpx

from service.adapters._messages import Picture, Prompt, completion_text, messages

T = TypeVar("T")
GIVE_UP_S, LONGEST_WAIT_S, TIMEOUT_S, AT_ONCE = 600.0, 30.0, 120.0, 16
BUSY = (429, 503)


class RewardFailed(RuntimeError):
    """There is no reward; the message says why."""


def reward(
    prompts: Sequence[Prompt],
    completions: Sequence[Any],
    images: Sequence[Sequence[Picture] | None] | None = None,
) -> list[float]:
    """The raw score of each completion. Completions of equal prompts share one request.

    Raises RewardFailed, or ValueError for what cannot be asked.
    """
    return blocking(areward(prompts, completions, images))


async def areward(
    prompts: Sequence[Prompt],
    completions: Sequence[Any],
    images: Sequence[Sequence[Picture] | None] | None = None,
) -> list[float]:
    """As `reward`, for a running event loop."""
    pictures = images if images is not None else [None] * len(prompts)
    if not len(prompts) == len(completions) == len(pictures):
        raise ValueError(
            f"{len(prompts)} prompts, {len(completions)} completions and {len(pictures)} lists of "
            "pictures; there must be one of each a sample"
        )
    places: dict[str, list[int]] = {}
    for place, (prompt, own) in enumerate(zip(prompts, pictures, strict=True)):
        conversation = json.dumps(messages(prompt, () if own is None else list(own)))
        places.setdefault(conversation, []).append(place)
    answers = [completion_text(completion) for completion in completions]
    async with Connection() as connection:
        groups = [connection.score(m, [answers[i] for i in of]) for m, of in places.items()]
        scores = await _together(groups)
    found = dict(zip(chain(*places.values()), chain(*scores), strict=True))
    return [found[place] for place in range(len(answers))]


async def _together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        # After one failure there is no reward for anybody, so nobody need try on.
        for task in tasks:
            task.cancel()


def blocking(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, also where the caller's thread already runs an event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work)).result()


class Connection:
    """A client of the server at REWARD_URL."""

    def __init__(self) -> None:
        url, key = os.environ.get("REWARD_URL"), os.environ.get("REWARD_API_KEY")
        if not url:
            raise RewardFailed("set REWARD_URL to the reward server, e.g. http://localhost:8000")
        self._url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.AsyncClient(headers=headers, timeout=TIMEOUT_S)
        self._places = asyncio.Semaphore(AT_ONCE)

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def score(self, conversation: str, answers: list[str]) -> list[float]:
        """Scores of `answers` to one conversation in JSON, in halves where all are too much."""
        try:
            body = await self.post(
                "/score", {"messages": json.loads(conversation), "responses": answers}
            )
        except TooMuch:
            if len(answers) == 1:
                raise
            half = len(answers) // 2
            first = await self.score(conversation, answers[:half])
            return first + await self.score(conversation, answers[half:])
        return [float(row["score"]) for row in body["scores"]]

    async def post(self, path: str, body: Any) -> Any:
        """The answer to `body`, waited for while the server is busy or away."""
        give_up = time.monotonic() + GIVE_UP_S
        tried = 0
        while True:
            tried += 1
            async with self._places:
                failure, wait_s, answer = await self._try(path, body, tried)
            if answer is not None:
                return answer
            if time.monotonic() + wait_s > give_up:
                raise RewardFailed(f"{self._url}{path} gave no reward in {tried} tries: {failure}")
            await asyncio.sleep(wait_s)

    async def _try(self, path: str, body: Any, tried: int) -> tuple[str, float, Any]:
        """The answer, or what went wrong and how long to wait; raises when waiting is no help."""
        wait_s = min(2.0 ** (tried - 1), LONGEST_WAIT_S)
        try:
            answer = await self._http.post(self._url + path, json=body)
        except httpx.TransportError as error:
            return f"{type(error).__name__} {error}", wait_s, None
        if answer.is_success:
            return "", 0.0, answer.json()
        failure = f"{answer.status_code} {answer.text[:500]}"
        if answer.status_code not in BUSY:
            kind = TooMuch if answer.status_code == 413 else RewardFailed
            raise kind(f"{self._url}{path} answered {failure}")
        after = answer.headers.get("Retry-After", "")
        return failure, float(after) if after.isdecimal() else wait_s, None


class TooMuch(RewardFailed):
    """One request was larger than the server takes."""
