"""Everything a server, or the lack of one, can answer with, as one sentence each."""

from dataclasses import dataclass
from typing import Any

import httpx

from rm_core.errors import RewardError


class RewardServerError(RewardError):
    """A call that got no answer. `code` is the server's, or one of those made here.

    Made here: `unreachable`, `deadline_passed`, `wrong_revision`, `bad_answer`; `status` is None
    when no answer came at all. `request_id` is in the server's log as well.
    """

    def __init__(
        self,
        status: int | None,
        code: str,
        message: str,
        request_id: str,
        *,
        field: str | None = None,
    ) -> None:
        super().__init__(message, field=field)
        self.status, self.code, self.request_id = status, code, request_id


@dataclass(frozen=True, slots=True)
class Tried:
    """What was asked of whom, how often and for how long: the end of every sentence."""

    url: str
    request_id: str
    times: int
    spent_s: float
    timeout_s: float

    def __str__(self) -> str:
        return f"({self.times} tries in {self.spent_s:.1f} s)" if self.times > 1 else ""


def settled(outcome: httpx.Response | httpx.TransportError, tried: Tried) -> httpx.Response:
    """The good answer; anything else is raised as what it means for the caller."""
    if isinstance(outcome, httpx.TimeoutException):
        raise _too_slow(tried) from outcome
    if isinstance(outcome, httpx.TransportError):
        raise _unreachable(outcome, tried) from outcome
    if outcome.is_success:
        return outcome
    raise _refused(outcome, tried)


def bad_answer(answer: httpx.Response, why: str, tried: Tried) -> RewardServerError:
    """A 200 that is not what this route answers."""
    message = f"{tried.url} answered something else than this service does: {why}"
    return RewardServerError(answer.status_code, "bad_answer", message, tried.request_id)


def wrong_revision(found: str, expected: str, tried: Tried) -> RewardServerError:
    """A good answer of a model the caller did not ask for."""
    message = f"{tried.url} serves revision {found}; expected_revision is {expected}"
    return RewardServerError(200, "wrong_revision", message, tried.request_id)


def _too_slow(tried: Tried) -> RewardServerError:
    message = (
        f"{tried.url} gave no answer within {tried.timeout_s:g} s {tried}".rstrip()
        + "; raise timeout_s, or send less at a time"
    )
    return RewardServerError(None, "deadline_passed", message, tried.request_id)


def _unreachable(error: httpx.TransportError, tried: Tried) -> RewardServerError:
    why = str(error) or type(error).__name__
    message = (
        f"no server answers at {tried.url}: {why} {tried}".rstrip()
        + "; start it, or correct the address"
    )
    return RewardServerError(None, "unreachable", message, tried.request_id)


def _refused(answer: httpx.Response, tried: Tried) -> RewardServerError:
    told = _told(answer)
    if told is None:
        return _strange(answer, tried)
    message = f"{tried.url} refused: {told['message']} {tried}".rstrip()
    request_id = str(told.get("request_id") or tried.request_id)
    return RewardServerError(
        answer.status_code, told["code"], message, request_id, field=told.get("field")
    )


def _told(answer: httpx.Response) -> dict[str, Any] | None:
    """The service's own error object, or None when somebody else answered."""
    try:
        told = answer.json()["error"]
        return told if isinstance(told["code"], str) and isinstance(told["message"], str) else None
    except (ValueError, KeyError, TypeError):
        return None


def _strange(answer: httpx.Response, tried: Tried) -> RewardServerError:
    code = f"http_{answer.status_code}"
    message = (
        f"{tried.url} answered {answer.status_code} {answer.reason_phrase} {tried}".rstrip()
        + ", not in this service's error form: a proxy, or another program at that address"
    )
    return RewardServerError(answer.status_code, code, message, tried.request_id)
