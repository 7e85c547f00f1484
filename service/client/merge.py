"""Single-response calls made together about the same prompt and pictures become one request."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from service.client.errors import RewardServerError
from service.client.question import Question
from service.schemas import Score

ScoreAll: TypeAlias = Callable[[Question, Sequence[str]], Awaitable[Sequence[Score]]]
# Refusals that one response can bring upon all it was merged with.
CONTENT = (413, 422)


@dataclass(eq=False, slots=True)
class Group:
    """One question, and everybody who waits for a score of an answer to it."""

    question: Question
    waiting: list[tuple[str, asyncio.Future[Score]]] = field(default_factory=list)


class Merger:
    """Collects for `within_s` seconds (0: the same turn of the event loop), `most` at a time."""

    def __init__(self, score_all: ScoreAll, *, within_s: float, most: int) -> None:
        self._score_all, self._within_s, self._most = score_all, within_s, most
        self._open: dict[Hashable, Group] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def score(self, question: Question, response: str) -> Score:
        loop, key = asyncio.get_running_loop(), key_of(question)
        if key not in self._open:
            self._open[key] = group = Group(question)
            loop.call_later(self._within_s, self._close, key, group)
        group = self._open[key]
        future: asyncio.Future[Score] = loop.create_future()
        group.waiting.append((response, future))
        if len(group.waiting) >= self._most:
            self._close(key, group)
        return await future

    def _close(self, key: Hashable, group: Group) -> None:
        if self._open.get(key) is group:  # else it was full before its time was over
            del self._open[key]
            task = asyncio.create_task(self._answer(group))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, group: Group) -> None:
        waiting = [(text, future) for text, future in group.waiting if not future.done()]
        if not waiting:
            return
        try:
            scores = await self._score_all(group.question, [text for text, _ in waiting])
        except RewardServerError as error:
            if error.status in CONTENT and len(waiting) > 1:
                await self._one_by_one(Group(group.question, waiting))
            else:
                _fail(waiting, error)
        except asyncio.CancelledError:
            _cancel(waiting)
            raise
        except Exception as error:  # whatever it is, those who wait must hear of it
            _fail(waiting, error)
        else:
            for (_, future), score in zip(waiting, scores, strict=True):
                if not future.done():
                    future.set_result(score.model_copy(update={"index": 0}))

    async def _one_by_one(self, group: Group) -> None:
        """Nobody is refused for an answer that only shared a request with theirs."""
        alone = (Group(group.question, [one]) for one in group.waiting)
        await asyncio.gather(*map(self._answer, alone))

    def cancel(self) -> None:
        for group in self._open.values():
            _cancel(group.waiting)
        for task in self._tasks:
            task.cancel()


def key_of(question: Question) -> Hashable:
    """Equal for the same prompt and pictures; objects without a cheap equality count as themselves.

    A group keeps its question alive, so an id in a key cannot be given to another object meanwhile.
    """
    return _frozen(question.prompt), tuple(map(_frozen, question.images))


def _frozen(value: Any) -> Hashable:
    match value:
        case str() | bytes() | Path() | int() | float() | None:
            return type(value), value
        case Mapping():
            return "mapping", frozenset((key, _frozen(of)) for key, of in value.items())
        case list() | tuple():
            return "list", tuple(map(_frozen, value))
    return "object", id(value)


def _fail(waiting: Sequence[tuple[str, asyncio.Future[Score]]], error: Exception) -> None:
    for _, future in waiting:
        if not future.done():
            future.set_exception(error)


def _cancel(waiting: Sequence[tuple[str, asyncio.Future[Score]]]) -> None:
    for _, future in waiting:
        future.cancel()
