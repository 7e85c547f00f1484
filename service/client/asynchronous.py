"""AsyncRewardClient: many calls at once over a bounded pool of connections."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import httpx

from rm_core.errors import InvalidInput
from service.client.errors import RewardServerError
from service.client.merge import Merger
from service.client.pictures import Picture
from service.client.pools import Pools
from service.client.question import Asked, Prompt, Question
from service.client.retries import Budget, Outcome, Retries
from service.client.setup import Priority, Request, Setup, upload_request
from service.client.uploads import Uploaded, was_forgotten
from service.schemas import CompareResponse, ModelResponse, RankResponse, Score, ScoreResponse

Answer = TypeVar("Answer", ScoreResponse, CompareResponse, RankResponse)


class AsyncRewardClient:
    """RewardClient's methods as coroutines, and `score_one`; for one event loop.

    concurrency: calls under way at the same time; the others wait here, and `timeout_s` counts
    from the moment a call gets its place.
    merge_s: how long a `score_one` call waits for others about the same prompt and pictures; 0
    merges what is called in the same turn of the event loop.
    merge_most: responses in one merged request at most.
    The rest as for RewardClient.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        retries: int = 5,
        expected_revision: str | None = None,
        upload: bool = True,
        priority: Priority = "interactive",
        concurrency: int = 32,
        merge_s: float = 0.0,
        merge_most: int = 64,
    ) -> None:
        if concurrency < 1 or merge_most < 1 or merge_s < 0:
            raise InvalidInput("concurrency and merge_most are at least 1, merge_s at least 0")
        self._setup = Setup(
            url=url.rstrip("/"),
            api_key=api_key,
            timeout_s=timeout_s,
            retries=Retries(retries),
            expected_revision=expected_revision,
            upload=upload,
            priority=priority,
        )
        # One more than calls, for model() and ready().
        self._http = Pools(self._setup.url, self._setup.headers(), concurrency + 1)
        self._places = asyncio.Semaphore(concurrency)
        self._uploaded = Uploaded(asyncio.Lock)
        self._merger = Merger(self._scores, within_s=merge_s, most=merge_most)

    async def score(
        self, prompt: Prompt, responses: Sequence[str], *, images: Sequence[Picture] = ()
    ) -> ScoreResponse:
        """One score per response, in order; `prompt` is a question or a list of messages."""
        question = self._question(prompt, images)
        return await self._ask(question, lambda: question.score(responses))

    async def score_one(
        self, prompt: Prompt, response: str, *, images: Sequence[Picture] = ()
    ) -> Score:
        """One response's score; calls made together about one prompt share its computation."""
        return await self._merger.score(self._question(prompt, images), response)

    async def compare(
        self, prompt: Prompt, response_a: str, response_b: str, *, images: Sequence[Picture] = ()
    ) -> CompareResponse:
        """Which of two responses is better, and how sure that is."""
        question = self._question(prompt, images)
        return await self._ask(question, lambda: question.compare(response_a, response_b))

    async def rank(
        self, prompt: Prompt, responses: Sequence[str], *, images: Sequence[Picture] = ()
    ) -> RankResponse:
        """At least two responses, best first."""
        question = self._question(prompt, images)
        return await self._ask(question, lambda: question.rank(responses))

    async def model(self) -> ModelResponse:
        """Which model answers."""
        request, budget = Request("GET", "/model"), Budget(self._setup.timeout_s)
        return self._setup.read_model(await self._exchange(request, budget))

    async def ready(self) -> bool:
        """Whether the server takes work now; raises when there is none. Never tries twice."""
        request, budget = Request("GET", "/ready"), Budget(self._setup.timeout_s)
        outcome = await self._send(request, budget)
        if isinstance(outcome, httpx.Response) and outcome.status_code == 503:
            return False
        return self._setup.settled(outcome, request, 1, budget).is_success

    async def aclose(self) -> None:
        """Close the connections; calls still under way are cancelled."""
        self._merger.cancel()
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _question(self, prompt: Prompt, images: Sequence[Picture]) -> Question:
        return Question(prompt, images, upload=self._setup.upload)

    async def _scores(self, question: Question, responses: Sequence[str]) -> Sequence[Score]:
        return (await self._ask(question, lambda: question.score(responses))).scores

    async def _ask(self, question: Question, build: Callable[[], Asked[Answer]]) -> Answer:
        # Read and encoded only with a place in hand: thousands of waiting calls hold no pictures.
        async with self._places:
            budget = Budget(self._setup.timeout_s)
            asked = await asyncio.to_thread(build) if question.holds_pictures else build()
            try:
                answer = await self._exchange_with_pictures(asked, budget)
            except RewardServerError as error:
                if not (asked.uploads and was_forgotten(error)):
                    raise
                self._uploaded.forget(asked.uploads)
                answer = await self._exchange_with_pictures(asked, budget)
        return self._setup.read(answer, asked)

    async def _exchange_with_pictures(self, asked: Asked[Answer], budget: Budget) -> httpx.Response:
        await self._upload_missing(asked.uploads, budget)
        return await self._exchange(Request("POST", asked.route, asked.body), budget)

    async def _upload_missing(self, uploads: Mapping[str, bytes], budget: Budget) -> None:
        for digest, data in uploads.items():
            if digest in self._uploaded:
                continue
            async with self._uploaded.lock(digest):
                if digest not in self._uploaded:
                    await self._exchange(upload_request(digest, data), budget)
                    self._uploaded.add(digest)

    async def _exchange(self, request: Request, budget: Budget) -> httpx.Response:
        tries = 0
        while True:
            outcome, tries = await self._send(request, budget), tries + 1
            wait_s = self._setup.retries.wait_s(outcome, tries, budget)
            if wait_s is None:
                return self._setup.settled(outcome, request, tries, budget)
            await asyncio.sleep(wait_s)

    async def _send(self, request: Request, budget: Budget) -> Outcome:
        try:
            async with asyncio.timeout(budget.left_s):
                return await self._http.request(
                    request.method,
                    request.route,
                    content=request.content,
                    headers=request.headers(budget),
                    timeout=None,  # httpx bounds each read; this bounds them all
                )
        except TimeoutError:
            return httpx.ReadTimeout("the answer did not come in time")
        except httpx.TransportError as error:
            return error
