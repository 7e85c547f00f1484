"""Many questions in one request: prepared, scored and answered together, or not at all."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.types import Receive

from service.batching import Scored
from service.compat.encoding import Encoded, Preparing
from service.compat.questions import Question
from service.deps import Call, Parts
from service.pipeline import while_caller_waits


@dataclass(frozen=True, slots=True)
class Result:
    """The raw score of a question, and how long its prompt and its answer are."""

    score: float
    prompt_tokens: int
    answer_tokens: int


async def score(
    call: Call[BaseModel],
    parts: Parts,
    receive: Receive,
    translate: Callable[[], list[Question]],
    *,
    token_limit: int | None = None,
) -> list[Result]:
    """One result for each question, in order. The first bad one is the whole request's error."""
    work = _score(call, parts, translate, token_limit)
    return await while_caller_waits(receive, work)


async def _score(
    call: Call[BaseModel],
    parts: Parts,
    translate: Callable[[], list[Question]],
    token_limit: int | None,
) -> list[Result]:
    preparing = Preparing(parts, token_limit)
    started = time.monotonic()
    encoded = await parts.preparer.run(lambda: preparing.encode_all(translate()))
    call.trace.add("fetch", preparing.pictures.fetch_s)
    call.trace.add("prepare", time.monotonic() - started - preparing.pictures.fetch_s)
    scored = await _together(call, parts, encoded)
    if scored:
        # The last group to come back is the one the caller waited for.
        slowest = max(scored, key=lambda group: group.queue_s + group.forward_s)
        call.trace.add("queue", slowest.queue_s)
        call.trace.add("forward", slowest.forward_s)
    results = _results(encoded, scored)
    for result in results:
        parts.metrics.scores.observe(result.score)
    return results


async def _together(
    call: Call[BaseModel], parts: Parts, encoded: Sequence[Encoded]
) -> list[Scored]:
    submit = parts.scheduler.submit
    waiting = [
        asyncio.ensure_future(submit(one.group, deadline=call.deadline, bulk=call.bulk))
        for one in encoded
    ]
    try:
        return await asyncio.gather(*waiting)
    finally:
        # After one error nobody reads the other scores, so they need not be computed.
        for task in waiting:
            task.cancel()


def _results(encoded: Sequence[Encoded], scored: Sequence[Scored]) -> list[Result]:
    found: dict[int, Result] = {}
    for one, answer in zip(encoded, scored, strict=True):
        for question, place in one.answer_of.items():
            tokens = one.group.answer_tokens[place]
            found[question] = Result(answer.scores[place], one.group.prompt_tokens, tokens)
    return [found[question] for question in sorted(found)]
