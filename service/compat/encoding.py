"""Questions -> encoded groups: the part of a foreign request that runs in a preparation thread."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rm_core.errors import RewardError, TooLarge, TooManyTokens
from rm_core.types import Conversation, ImagePart, ScoreGroup, TextPart
from rm_core.types import Part as CorePart
from rm_core.types import Turn as CoreTurn
from service.batching import split_to_fit
from service.compat.questions import Group, Part, Picture, Question, Turn, grouped
from service.deps import Parts
from service.errors import TextTooLong, TooManyImages, TooManyResponses
from service.prepare import Pictures
from service.settings import Settings

if TYPE_CHECKING:
    from rm_core.encode import EncodedGroup


@dataclass(frozen=True, slots=True)
class Encoded:
    """A group ready for the queue, and the place in it of each question's answer."""

    group: "EncodedGroup"
    answer_of: dict[int, int]


class Preparing:
    """The threads' part of one request: limits, pictures, tokens."""

    def __init__(self, parts: Parts, token_limit: int | None, fetched: Mapping[str, bytes]) -> None:
        self._scorer = parts.scorer
        self._most = parts.scheduler.limit
        context = parts.scorer.info.context_limit
        self._longest = context if token_limit is None else min(context, token_limit)
        self._pictures = Pictures(parts.store, parts.settings, fetched)

    def encode_all(self, questions: list[Question]) -> list[Encoded]:
        return [self._encode(questions, group) for group in grouped(questions)]

    def _encode(self, questions: list[Question], group: Group) -> Encoded:
        first = questions[group.places[0]]
        try:
            conversation = Conversation(tuple(self._turn(turn) for turn in group.turns))
        except RewardError as error:
            error.field = error.field or first.field
            raise
        # Equal answers once and in a fixed order, as /score does: equal ones must tie exactly.
        answers = sorted({questions[place].answer for place in group.places})
        encoded = self._scorer.encoder.encode(ScoreGroup(conversation, tuple(answers)))
        row = {answer: i for i, answer in enumerate(answers)}
        rows = {place: row[questions[place].answer] for place in group.places}
        for place, number in rows.items():
            self._refuse_too_large(encoded, number, questions[place].field)
        return Encoded(encoded, rows)

    def _refuse_too_large(self, group: "EncodedGroup", number: int, field: str) -> None:
        """Nothing is queued for a request in which one answer is too long by itself."""
        alone = replace(group, answer_ids=(group.answer_ids[number],))
        try:
            if alone.longest > self._longest:
                raise TooManyTokens(alone.longest, self._longest)
            split_to_fit(alone, self._most, self._scorer.cost)
        except TooLarge as error:
            error.field = field
            raise

    def _turn(self, turn: Turn) -> CoreTurn:
        return CoreTurn(turn.role, tuple(map(self._part, turn.parts)))

    def _part(self, part: Part) -> CorePart:
        if isinstance(part, TextPart):
            return part
        # Opened again for each prompt: its patches take memory each time, so its pixels count.
        return ImagePart(self._pictures.open(part.url, part.field))


def within_limits(questions: list[Question], settings: Settings) -> list[Question]:
    """The questions, if the whole request keeps the bounds one native request has."""
    if len(questions) > settings.max_responses:
        raise TooManyResponses(
            f"{len(questions)} answers in one request; the limit is {settings.max_responses}. "
            "Split them over several requests."
        )
    parts = [part for one in grouped(questions) for turn in one.turns for part in turn.parts]
    pictures = sum(isinstance(part, Picture) for part in parts)
    if pictures > settings.max_images:
        raise TooManyImages(
            f"{pictures} pictures in one request, counted once for each prompt; the limit is "
            f"{settings.max_images}"
        )
    chars = sum(len(part.text) for part in parts if isinstance(part, TextPart))
    chars += sum(len(question.answer) for question in questions)
    if chars > settings.max_text_chars:
        raise TextTooLong(
            f"the texts have {chars} characters; this server reads {settings.max_text_chars}. "
            "Nothing is truncated: shorten them or split the request."
        )
    return questions
