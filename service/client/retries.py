"""When to try again, and how much of the caller's time is left: pure decisions."""

import email.utils
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

# Every route a client calls is idempotent, so what failed on the way may be sent again.
AGAIN = (429, 503)
BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError)
LONGEST_DEADLINE_MS = 3_600_000  # what the server takes

Outcome = httpx.Response | httpx.TransportError


@dataclass(frozen=True, slots=True)
class Budget:
    """The seconds one call may take, uploads, waits and retries included."""

    timeout_s: float
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "started", self.clock())

    @property
    def spent_s(self) -> float:
        return self.clock() - self.started

    @property
    def left_s(self) -> float:
        """Never zero: a spent budget still makes a request, which then times out at once."""
        return max(0.001, self.timeout_s - self.spent_s)

    @property
    def deadline_ms(self) -> str:
        return str(min(LONGEST_DEADLINE_MS, max(1, int(self.left_s * 1000))))


@dataclass(frozen=True, slots=True)
class Retries:
    """At most `most` tries after the first, each after a longer pause."""

    most: int = 5
    first_s: float = 0.2
    longest_s: float = 8.0
    chance: Callable[[], float] = random.random

    def wait_s(self, outcome: Outcome, tries: int, budget: Budget) -> float | None:
        """Seconds before the next try; None when `outcome` is the last word."""
        if tries > self.most or not may_repeat(outcome):
            return None
        pause_s = max(self._backoff_s(tries), asked_to_wait_s(outcome))
        # Up to half as long again, so that callers refused together do not come back together.
        pause_s *= 1 + self.chance() / 2
        # A pause that leaves no time to ask is only a slower way to say no.
        return pause_s if pause_s < budget.left_s else None

    def _backoff_s(self, tries: int) -> float:
        return float(min(self.longest_s, self.first_s * 2 ** (tries - 1)))


def may_repeat(outcome: Outcome) -> bool:
    """Overloaded, draining, over quota, or the connection broke."""
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in AGAIN
    return isinstance(outcome, BROKEN)


def asked_to_wait_s(outcome: Outcome) -> float:
    """`Retry-After` in seconds, given as a number or as a date; 0 without one."""
    value = outcome.headers.get("retry-after", "") if isinstance(outcome, httpx.Response) else ""
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
