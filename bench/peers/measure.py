"""Keeping one peer busy with one workload, and what came of it."""

import asyncio
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx

from bench.peers.process import JSON, PeerProcess
from bench.peers.tree import Sample


@dataclass(frozen=True)
class Request:
    """The bodies that together answer one item, how many scores that is, and its arithmetic."""

    bodies: Sequence[bytes]
    scores: int
    flops: float


@dataclass(frozen=True)
class Done:
    """One item answered: when, after how long, what, or why not."""

    at: float
    took_s: float
    request: Request
    error: str | None


@dataclass(frozen=True)
class Row:
    """One line of the table; None where nothing came back."""

    answers_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    cpu_s: float
    cpu_per_answer_ms: float | None
    cores: float  # CPU seconds for each second that passed
    peak_mib: float
    others: float  # cores that programs other than this run kept busy
    gflops: float
    answers: int
    errors: tuple[str, ...]


class RanOut(Exception):
    """The peer was faster than the prepared requests; sending one twice would let it be cached."""


async def keep_busy(
    running: PeerProcess, requests: Iterator[Request], at_once: int, warm_up: float, seconds: float
) -> Row:
    """`at_once` items in flight for `warm_up` and `seconds`; whole answers in `seconds` count."""
    started = time.perf_counter()
    begin, end = started + warm_up, started + warm_up + seconds
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=600, limits=limits, headers=JSON) as client:
        callers = [_caller(client, running, requests, end) for _ in range(at_once)]
        done = [one for of_one in await asyncio.gather(*callers) for one in of_one]
    return summary(done, running.samples, started, begin, end)


async def _caller(
    client: httpx.AsyncClient, running: PeerProcess, requests: Iterator[Request], end: float
) -> list[Done]:
    done = []
    while (asked := time.perf_counter()) < end:
        request = next(requests, None)
        if request is None:
            raise RanOut("too few requests were prepared; raise --per-second")
        error = await _ask(client, running, request)
        now = time.perf_counter()
        done.append(Done(now, now - asked, request, error))
    return done


async def _ask(client: httpx.AsyncClient, running: PeerProcess, request: Request) -> str | None:
    """All bodies of an item at once; a peer without groups gets one for each answer."""
    try:
        await asyncio.gather(*(scores_of(client, running, body) for body in request.bodies))
    except (httpx.HTTPError, ValueError, KeyError) as error:
        await asyncio.sleep(0.05)  # a dead server refuses faster than anyone needs to know
        return f"{type(error).__name__}: {error}"[:200]
    return None


async def scores_of(client: httpx.AsyncClient, running: PeerProcess, body: bytes) -> list[float]:
    answer = await client.post(running.url, content=body)
    answer.raise_for_status()
    scores = running.peer.read(answer.json())
    if not all(map(math.isfinite, scores)):
        raise ValueError("a score is not a finite number")
    return scores


def summary(
    done: Sequence[Done],
    samples: Sequence[Sample],
    started: float,
    begin: float,
    end: float,
) -> Row:
    """Counted from the last answer before `begin` to the last one before `end`.

    Answers come in batches: between two of their ends lies whole work, between two arbitrary
    moments up to a batch too much or too little. Where no answer came in `seconds`, those that
    were waited for afterwards count: a slow peer is slow, not silent.
    """
    good = [one for one in done if one.error is None]
    first = max((one.at for one in good if one.at <= begin), default=started)
    later = [one.at for one in good if one.at > first]
    last = max((at for at in later if at <= end), default=max(later, default=end))
    counted = [one for one in good if first < one.at <= last]
    answers = sum(one.request.scores for one in counted)
    spent = max(last - first, 1e-9)
    before, after = _at(samples, first), _at(samples, last)
    cpu_s = after.cpu_s - before.cpu_s
    took_ms = sorted(one.took_s * 1000 for one in counted)
    return Row(
        answers_per_s=answers / spent,
        p50_ms=statistics.median(took_ms) if took_ms else None,
        p95_ms=took_ms[math.ceil(0.95 * len(took_ms)) - 1] if took_ms else None,
        cpu_s=cpu_s,
        cpu_per_answer_ms=cpu_s * 1000 / answers if answers else None,
        cores=cpu_s / spent,
        peak_mib=max((s.mib for s in samples if started <= s.at <= last), default=0.0),
        others=(after.others_s - before.others_s) / spent,
        gflops=sum(one.request.flops for one in counted) / spent / 1e9,
        answers=answers,
        errors=tuple(one.error for one in done if one.error is not None),
    )


def _at(samples: Sequence[Sample], when: float) -> Sample:
    """The sample nearest to a moment; two a second are taken."""
    return min(samples, key=lambda sample: abs(sample.at - when))
