"""Keeping a server, or the scorer alone, busy for some seconds, and counting."""

import asyncio
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import httpx

from rm_core.scorer import Scorer
from rm_core.types import ScoreGroup


@dataclass(frozen=True)
class Answer:
    """When it came, how long it took, and whether it was right."""

    at: float
    ms: float
    good: bool


@dataclass(frozen=True)
class Measured:
    """One row of the table; times in milliseconds, None where nothing right came back."""

    in_flight: int
    requests: int
    errors: int
    requests_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    bare_per_s: float | None = None

    @property
    def ratio(self) -> float | None:
        """The server's throughput over the bare scorer's."""
        return self.requests_per_s / self.bare_per_s if self.bare_per_s else None


def summary(in_flight: int, answers: Sequence[Answer], begin: float, end: float) -> Measured:
    """What came in [begin, end]; before it the server warms up, after it callers run out."""
    counted = [answer for answer in answers if begin <= answer.at <= end]
    took_ms = sorted(answer.ms for answer in counted if answer.good)
    p50, p95 = (
        (statistics.median(took_ms), took_ms[math.ceil(0.95 * len(took_ms)) - 1])
        if took_ms
        else (None, None)
    )
    errors = len(counted) - len(took_ms)
    return Measured(in_flight, len(counted), errors, len(took_ms) / (end - begin), p50, p95)


async def served(
    url: str, bodies: Sequence[dict[str, Any]], in_flight: int, *, warm_up: float, seconds: float
) -> Measured:
    """Keep `in_flight` requests going for `warm_up`, which does not count, and `seconds`."""
    limits = httpx.Limits(max_connections=in_flight)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        begin = time.perf_counter() + warm_up
        end = begin + seconds
        callers = [
            _caller(client, _turns(bodies, number, in_flight), end) for number in range(in_flight)
        ]
        answers = [answer for of_one in await asyncio.gather(*callers) for answer in of_one]
    return summary(in_flight, answers, begin, end)


def _turns(bodies: Sequence[dict[str, Any]], first: int, step: int) -> Iterator[dict[str, Any]]:
    return (bodies[number % len(bodies)] for number in count(first, step))


async def _caller(
    client: httpx.AsyncClient, bodies: Iterator[dict[str, Any]], end: float
) -> list[Answer]:
    """One caller who always has one request in flight."""
    answers = []
    while (asked := time.perf_counter()) < end:
        good = await _is_answered(client, next(bodies))
        now = time.perf_counter()
        answers.append(Answer(now, (now - asked) * 1000, good))
    return answers


async def _is_answered(client: httpx.AsyncClient, body: dict[str, Any]) -> bool:
    """A broken connection or a strange answer is an error to count, not the end of the run."""
    try:
        answer = await client.post("/compare", json=body)
        return answer.status_code == 200 and math.isfinite(answer.json()["margin"])
    except (httpx.HTTPError, json.JSONDecodeError, KeyError, TypeError):
        await asyncio.sleep(0.01)  # a dead server refuses faster than anyone needs to know
        return False


def bare_per_s(
    scorer: Scorer, groups: Sequence[ScoreGroup], at_once: int, *, warm_up: float, seconds: float
) -> float:
    """Groups per second of `Scorer.score` in a plain loop: no HTTP, no JSON, no PNG, no queue."""
    turns = (groups[number % len(groups)] for number in count())
    _scored_per_s(scorer, turns, at_once, warm_up)
    return _scored_per_s(scorer, turns, at_once, seconds)


def _scored_per_s(
    scorer: Scorer, groups: Iterator[ScoreGroup], at_once: int, seconds: float
) -> float:
    started, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds:
        scorer.score(list(islice(groups, at_once)))
        done += at_once
    return done / spent
