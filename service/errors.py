"""What the service itself refuses, and the one table that gives every error its status."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

from starlette.responses import JSONResponse

from rm_core.errors import InvalidInput, RewardError, TooLarge


class CallerLeft(Exception):
    """The connection closed before the answer; not an answer, so not a RewardError."""


class NotJson(RewardError):
    """The body is not a JSON document at all."""

    code = "not_json"


class MissingKey(RewardError):
    """No API key, or one this server does not know."""

    code = "unauthorized"


class Forbidden(RewardError):
    """The key is known but may not do this."""

    code = "forbidden"


class NotFound(RewardError):
    """No such route."""

    code = "not_found"


class MethodNotAllowed(RewardError):
    """The route exists, the method does not."""

    code = "method_not_allowed"


class BodyTimeout(RewardError):
    """The caller stopped sending in the middle of a body."""

    code = "body_timeout"


class BodyTooLarge(TooLarge):
    """The body is over the server's byte limit; it was not parsed."""

    code = "body_too_large"


class TextTooLong(TooLarge):
    """More characters than this server tokenizes for one request."""

    code = "text_too_long"


class TooMuchWork(TooLarge):
    """The prompt with one answer is more than one forward pass may, or can, hold."""

    code = "too_much_work"


class UnsupportedMediaType(RewardError):
    """Content-Type or Content-Encoding is not the one this route reads."""

    code = "unsupported_media_type"


class NotSupported(InvalidInput):
    """Part of the contract, but not available on this server."""

    code = "not_supported"


class UrlNotAllowed(InvalidInput):
    """A picture's URL, or where it redirects, is somewhere this server may not fetch from."""

    code = "url_not_allowed"


class FetchFailed(InvalidInput):
    """No picture came back from a URL: no such host, no connection, another status than 200."""

    code = "fetch_failed"


class FetchTooSlow(InvalidInput):
    """A picture did not arrive from its URL within the server's time for fetching."""

    code = "fetch_too_slow"


class FetchTooLarge(TooLarge):
    """The pictures fetched for one request are over the server's byte limit."""

    code = "fetch_too_large"


class DigestMismatch(InvalidInput):
    """Uploaded bytes do not hash to the digest in the address."""

    code = "digest_mismatch"


class PictureMissing(InvalidInput):
    """A templated text shows a picture that the request does not hold; never scored blind."""

    code = "picture_missing"


class TooManyResponses(InvalidInput):
    """More candidates than one request may carry."""

    code = "too_many_responses"


class TooManyImages(InvalidInput):
    """More pictures than one request may carry."""

    code = "too_many_images"


# Callers that all came back after the same second would only meet each other again.
_spread: Iterator[int] = itertools.cycle((1, 2, 3))


class Unavailable(RewardError):
    """Not now; the same request may succeed after `retry_after_s`."""

    code = "unavailable"

    def __init__(self, message: str, *, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = math.ceil(wait_s) + next(_spread)


class Overloaded(Unavailable):
    """Every permit is taken."""

    code = "overloaded"


class Draining(Unavailable):
    """The server is going away and takes no new work."""

    code = "draining"


class NotReady(Unavailable):
    """The golden self check has not passed (yet)."""

    code = "not_ready"


class DeadlinePassed(RewardError):
    """The caller's budget ran out before a score was there."""

    code = "deadline_passed"


def deadline_passed() -> DeadlinePassed:
    return DeadlinePassed("X-Deadline-Ms passed before the score was there; allow more time")


class ForwardFailed(RewardError):
    """The model raises on this request, also without the others of its batch."""

    code = "forward_failed"


class NonFiniteScore(RewardError):
    """The model produced NaN or infinity, which is never sent."""

    code = "non_finite_score"


STATUS: dict[type[RewardError], int] = {
    NotJson: 400,
    MissingKey: 401,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    BodyTimeout: 408,
    TooLarge: 413,
    UnsupportedMediaType: 415,
    InvalidInput: 422,
    RewardError: 500,
    Unavailable: 503,
    DeadlinePassed: 504,
}


def status_of(error: type[RewardError]) -> int:
    """The status of the nearest ancestor that has a row."""
    return next(STATUS[kind] for kind in error.__mro__ if kind in STATUS)


def error_body(error: RewardError, request_id: str) -> dict[str, Any]:
    """The one shape every error has on the wire."""
    return {
        "error": {
            "code": error.code,
            "message": error.message,
            "field": error.field,
            "request_id": request_id,
        }
    }


def error_response(
    error: RewardError, request_id: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """`error` as an answer, with Retry-After where trying again makes sense."""
    headers = dict(headers or {})
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, MissingKey):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error, request_id), status_of(type(error)), headers)
