"""RewardClient: one call, one answer; safe to share between threads."""

import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import httpx

from service.client.errors import RewardServerError
from service.client.pictures import Picture
from service.client.question import Asked, Prompt, Question
from service.client.retries import Budget, Outcome, Retries
from service.client.setup import Priority, Request, Setup, upload_request
from service.client.uploads import Uploaded, was_forgotten
from service.schemas import CompareResponse, ModelResponse, RankResponse, ScoreResponse

Answer = TypeVar("Answer", ScoreResponse, CompareResponse, RankResponse)


class RewardClient:
    """A server at `url`. Every method raises RewardServerError, or InvalidInput for a wrong call.

    timeout_s: seconds one call may take, with uploads and retries; the server is told what is left.
    What is left bounds connecting and each read and write: only a server that answers drop by drop
    can take longer.
    retries: further tries after 429, 503 and broken connections; nothing else is tried again.
    expected_revision: an answer of another model revision raises.
    upload: send each local picture once and name it by digest; False puts it into every request,
    which several servers behind one address need.
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
    ) -> None:
        self._setup = Setup(
            url=url.rstrip("/"),
            api_key=api_key,
            timeout_s=timeout_s,
            retries=Retries(retries),
            expected_revision=expected_revision,
            upload=upload,
            priority=priority,
        )
        self._http = httpx.Client(base_url=self._setup.url, headers=self._setup.headers())
        self._uploaded = Uploaded(threading.Lock)

    def score(
        self, prompt: Prompt, responses: Sequence[str], *, images: Sequence[Picture] = ()
    ) -> ScoreResponse:
        """One score per response, in order; `prompt` is a question or a list of messages."""
        return self._ask(self._question(prompt, images).score(responses))

    def compare(
        self, prompt: Prompt, response_a: str, response_b: str, *, images: Sequence[Picture] = ()
    ) -> CompareResponse:
        """Which of two responses is better, and how sure that is."""
        return self._ask(self._question(prompt, images).compare(response_a, response_b))

    def rank(
        self, prompt: Prompt, responses: Sequence[str], *, images: Sequence[Picture] = ()
    ) -> RankResponse:
        """At least two responses, best first."""
        return self._ask(self._question(prompt, images).rank(responses))

    def model(self) -> ModelResponse:
        """Which model answers."""
        request, budget = Request("GET", "/model"), Budget(self._setup.timeout_s)
        return self._setup.read_model(self._exchange(request, budget))

    def ready(self) -> bool:
        """Whether the server takes work now; raises when there is none. Never tries twice."""
        request, budget = Request("GET", "/ready"), Budget(self._setup.timeout_s)
        outcome = self._send(request, budget)
        if isinstance(outcome, httpx.Response) and outcome.status_code == 503:
            return False
        return self._setup.settled(outcome, request, 1, budget).is_success

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _question(self, prompt: Prompt, images: Sequence[Picture]) -> Question:
        return Question(prompt, images, upload=self._setup.upload)

    def _ask(self, asked: Asked[Answer]) -> Answer:
        budget = Budget(self._setup.timeout_s)
        try:
            answer = self._exchange_with_pictures(asked, budget)
        except RewardServerError as error:
            if not (asked.uploads and was_forgotten(error)):
                raise
            self._uploaded.forget(asked.uploads)
            answer = self._exchange_with_pictures(asked, budget)
        return self._setup.read(answer, asked)

    def _exchange_with_pictures(self, asked: Asked[Answer], budget: Budget) -> httpx.Response:
        self._upload_missing(asked.uploads, budget)
        return self._exchange(Request("POST", asked.route, asked.body), budget)

    def _upload_missing(self, uploads: Mapping[str, bytes], budget: Budget) -> None:
        for digest, data in uploads.items():
            if digest in self._uploaded:
                continue
            with self._uploaded.lock(digest):
                if digest not in self._uploaded:
                    self._exchange(upload_request(digest, data), budget)
                    self._uploaded.add(digest)

    def _exchange(self, request: Request, budget: Budget) -> httpx.Response:
        tries = 0
        while True:
            outcome, tries = self._send(request, budget), tries + 1
            wait_s = self._setup.retries.wait_s(outcome, tries, budget)
            if wait_s is None:
                return self._setup.settled(outcome, request, tries, budget)
            time.sleep(wait_s)

    def _send(self, request: Request, budget: Budget) -> Outcome:
        try:
            return self._http.request(
                request.method,
                request.route,
                content=request.content,
                headers=request.headers(budget),
                timeout=budget.left_s,
            )
        except httpx.TransportError as error:
            return error
