"""Many questions in one request: prepared, scored and answered together, or not at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.types import Receive

from service.batching import Scored
from service.compat.encoding import Encoded, Preparing, within_limits
from service.compat.questions import Question, picture_urls
from service.deps import Call, Parts
from service.media import web_urls
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
    return await while_caller_waits(receive, work, call.deadline)


async def _score(
    call: Call[BaseModel],
    parts: Parts,
    translate: Callable[[], list[Question]],
    token_limit: int | None,
) -> list[Result]:
    with call.trace.stage("prepare"):
        questions = await parts.preparer.run(lambda: within_limits(translate(), parts.settings))
    urls = web_urls(picture_urls(questions))
    fetched = await parts.preparer.fetch(urls, call.trace, call.deadline)
    preparing = Preparing(parts, token_limit, fetched)
    with call.trace.stage("prepare"):
        encoded = await parts.preparer.run(lambda: preparing.encode_all(questions))
    scored = await parts.scheduler.submit_all(
        [one.group for one in encoded], deadline=call.deadline, bulk=call.bulk
    )
    if scored:
        # The last group to come back is the one the caller waited for.
        slowest = max(scored, key=lambda group: group.queue_s + group.forward_s)
        call.trace.add("queue", slowest.queue_s)
        call.trace.add("forward", slowest.forward_s)
    results = _results(encoded, scored)
    for result in results:
        parts.metrics.scores.observe(result.score)
    return results


def _results(encoded: Sequence[Encoded], scored: Sequence[Scored]) -> list[Result]:
    found: dict[int, Result] = {}
    for one, answer in zip(encoded, scored, strict=True):
        for question, place in one.answer_of.items():
            tokens = one.group.answer_tokens[place]
            found[question] = Result(answer.scores[place], one.group.prompt_tokens, tokens)
    return [found[question] for question in sorted(found)]
