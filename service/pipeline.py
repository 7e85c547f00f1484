"""Prepare, wait, score: the middle of every scoring route."""

import asyncio
import math
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import Receive

from service.batching import Scored
from service.deps import Call, Parts
from service.errors import CallerLeft, deadline_passed
from service.prepare import Prepared
from service.schemas import AnyRequest, Usage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Result:
    """One score and one length per answer the caller sent, in the caller's order."""

    scores: tuple[float, ...]
    tokens: tuple[int, ...]
    usage: Usage


async def score(call: Call[AnyRequest], parts: Parts, receive: Receive) -> Result:
    """The scores of one request; stops caring when the caller does."""
    return await while_caller_waits(receive, _score(call, parts), call.deadline)


async def _score(call: Call[AnyRequest], parts: Parts) -> Result:
    prepared = await parts.preparer.prepare(call.body, call.trace, call.deadline)
    scored = await parts.scheduler.submit(prepared.group, deadline=call.deadline, bulk=call.bulk)
    call.trace.add("queue", scored.queue_s)
    call.trace.add("forward", scored.forward_s)
    result = _result(prepared, scored)
    for value in result.scores:
        parts.metrics.scores.observe(value)
    return result


def _result(prepared: Prepared, scored: Scored) -> Result:
    group, places = prepared.group, prepared.places
    tokens = tuple(group.answer_tokens[place] for place in places)
    usage = Usage(
        prompt_tokens=group.prompt_tokens,
        image_tokens=group.image_tokens,
        response_tokens=sum(tokens),
        computed_tokens=scored.computed_tokens,
    )
    return Result(tuple(scored.scores[place] for place in places), tokens, usage)


async def while_caller_waits(receive: Receive, work: Coroutine[Any, Any, T], deadline: float) -> T:
    """The result of `work`; CallerLeft when the connection closes, DeadlinePassed in time."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        timeout = None if math.isinf(deadline) else max(0.0, deadline - time.monotonic())
        await asyncio.wait({working, leaving}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done() and not working.done():
            raise CallerLeft
        if not working.done():
            raise deadline_passed()
        return working.result()
    finally:
        # Cancelling marks the waiting future as done, so that the batcher skips it.
        working.cancel()
        leaving.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
