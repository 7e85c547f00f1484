"""How much the server takes: bytes of a body, and requests at the same time."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from starlette.requests import Request

from rm_core.errors import RewardError
from service.errors import (
    BodyTimeout,
    BodyTooLarge,
    Draining,
    NotReady,
    Overloaded,
    deadline_passed,
)

Priority = Literal["interactive", "bulk"]
# Bulk work is shed first: it may fill only this share of the permits.
BULK_SHARE = 0.5


async def read_body(
    request: Request, *, limit: int, timeout_s: float, deadline: float = math.inf
) -> bytes:
    """The whole body, refused from its declared length when possible, else while it arrives."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(min(timeout_s, deadline - time.monotonic())):
            async for chunk in request.stream():
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise too_large(limit)
    except TimeoutError:
        if time.monotonic() >= deadline:
            raise deadline_passed() from None
        raise BodyTimeout(f"the body did not arrive within {timeout_s:g} seconds") from None
    return b"".join(chunks)


def too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body is larger than {limit} bytes; upload pictures with PUT /images/<sha256> and "
        "name them by digest, or send fewer responses"
    )


class Admission:
    """One permit per request, held until its answer is out; closed while draining or not ready."""

    def __init__(self, limit: int, expected_wait_s: Callable[[], float]) -> None:
        self.limit, self._expected_wait_s = limit, expected_wait_s
        self.in_flight = 0
        self.draining = False
        self.not_ready: str | None = "the golden self check has not finished yet"

    @property
    def ready(self) -> bool:
        return not self.draining and self.not_ready is None

    def refusal(self, priority: Priority = "interactive") -> RewardError | None:
        """Why a request of this priority would be refused right now."""
        if self.draining:
            return Draining("the server is shutting down; send this to another replica")
        if self.not_ready is not None:
            return NotReady(f"the server is not ready: {self.not_ready}")
        share = BULK_SHARE if priority == "bulk" else 1.0
        if self.in_flight >= max(1, int(self.limit * share)):
            return Overloaded(
                f"{self.in_flight} requests are already being worked on; retry later",
                wait_s=self._expected_wait_s(),
            )
        return None

    def check(self, priority: Priority = "interactive") -> None:
        """Refuse before a body is read, when that is already known to be the answer."""
        if refusal := self.refusal(priority):
            raise refusal

    @contextmanager
    def permit(self, priority: Priority = "interactive") -> Iterator[None]:
        self.check(priority)
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def drain(self) -> None:
        """Take no new work; what is accepted is still answered."""
        self.draining = True
