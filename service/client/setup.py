"""What both clients are told once, and what they decide alike."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Literal, NoReturn, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from rm_core.errors import InvalidInput
from service import __version__
from service.client import errors
from service.client.errors import Tried
from service.client.question import Asked
from service.client.retries import LONGEST_DEADLINE_MS, Budget, Outcome, Retries
from service.schemas import CompareResponse, ModelResponse, RankResponse, ScoreResponse

Priority = Literal["interactive", "bulk"]
Answer = TypeVar("Answer", ScoreResponse, CompareResponse, RankResponse)
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it goes out, however often."""

    method: str
    route: str
    content: bytes | None = None
    content_type: str = "application/json"
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def headers(self, budget: Budget) -> dict[str, str]:
        named = {"X-Request-Id": self.request_id, "X-Deadline-Ms": budget.deadline_ms}
        return named if self.content is None else {**named, "Content-Type": self.content_type}


@dataclass(frozen=True, slots=True)
class Setup:
    """An address and how to treat it; wrong values are refused here."""

    url: str
    api_key: str | None
    timeout_s: float
    retries: Retries
    expected_revision: str | None
    upload: bool
    priority: Priority

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InvalidInput(f"the address {self.url!r} must begin with http:// or https://")
        if not 0 < self.timeout_s <= LONGEST_DEADLINE_MS / 1000:
            raise InvalidInput(f"timeout_s is {self.timeout_s}; it must be over 0 and at most 3600")

    def headers(self) -> dict[str, str]:
        """Sent with every request."""
        named = {"User-Agent": f"vlrm-client/{__version__}", "X-Priority": self.priority}
        return named | ({"Authorization": f"Bearer {self.api_key}"} if self.api_key else {})

    def settled(
        self, outcome: Outcome, request: Request, tries: int, budget: Budget
    ) -> httpx.Response:
        return errors.settled(outcome, self._tried(request, tries, budget))

    def read(self, answer: httpx.Response, asked: Asked[Answer]) -> Answer:
        """A checked answer: every field there, every number finite, the expected revision."""
        found = self._parsed(answer, asked.answer)
        if isinstance(found, ScoreResponse):
            self._require_count(answer, len(found.scores), asked)
        if isinstance(found, RankResponse):
            self._require_count(answer, len(found.ranking), asked)
        self._require_revision(answer, found.model.revision)
        return found

    def read_model(self, answer: httpx.Response) -> ModelResponse:
        found = self._parsed(answer, ModelResponse)
        self._require_revision(answer, found.revision)
        return found

    def _parsed(self, answer: httpx.Response, kind: type[Model]) -> Model:
        try:
            return kind.model_validate(json.loads(answer.content, parse_constant=_refuse))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise errors.bad_answer(answer, why, self._told(answer)) from None
        except ValueError as error:
            raise errors.bad_answer(answer, str(error), self._told(answer)) from None

    def _require_count(self, answer: httpx.Response, found: int, asked: Asked[Answer]) -> None:
        if found != asked.num_responses:
            why = f"{found} scores for {asked.num_responses} responses"
            raise errors.bad_answer(answer, why, self._told(answer))

    def _require_revision(self, answer: httpx.Response, found: str) -> None:
        if self.expected_revision not in (None, found):
            raise errors.wrong_revision(found, str(self.expected_revision), self._told(answer))

    def _told(self, answer: httpx.Response) -> Tried:
        return Tried(self.url, answer.headers.get("x-request-id", ""), 1, 0.0, self.timeout_s)

    def _tried(self, request: Request, tries: int, budget: Budget) -> Tried:
        return Tried(self.url, request.request_id, tries, budget.spent_s, self.timeout_s)


def upload_request(digest: str, data: bytes) -> Request:
    return Request("PUT", f"/images/{digest}", data, "application/octet-stream")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a score")
