"""Text that already went through the chat template -> turns and the answer that is scored.

The inverse of `rm_core.chat.render`. Control tokens count only where the template writes
them; what is left inside a turn is text. A text that is not such a conversation is refused.
"""

import re
from dataclasses import dataclass

from rm_core.chat import (
    ANSWER_HEADER,
    IM_END,
    IM_START,
    IMAGE_PAD,
    VIDEO_PAD,
    VISION_END,
    VISION_START,
)
from rm_core.errors import InvalidInput
from rm_core.types import Role
from service.errors import NotSupported

ROLES: tuple[Role, ...] = ("system", "user", "assistant")
# A policy's processor writes one pad for each of its own image tokens; any number is one picture.
PICTURE = re.compile(
    re.escape(VISION_START) + f"(?:{re.escape(IMAGE_PAD)})+" + re.escape(VISION_END)
)
CLOSING = f"{IM_END}\n"
ONE_PAD = VISION_START + IMAGE_PAD + VISION_END
# Generation stops at either token, or at neither when it ran out of tokens.
END = re.compile(rf"(?:{re.escape(IM_END)}\n?|<\|endoftext\|>)?\Z")


@dataclass(frozen=True, slots=True)
class ReadTurn:
    """A turn read back: there is one picture between each two neighbours of `texts`."""

    role: Role
    texts: tuple[str, ...]

    @property
    def pictures(self) -> int:
        return len(self.texts) - 1


@dataclass(frozen=True, slots=True)
class Templated:
    """A conversation read back from its text."""

    turns: tuple[ReadTurn, ...]
    answer: str

    @property
    def pictures(self) -> int:
        return sum(turn.pictures for turn in self.turns)


def parse(text: str, prompt: str | None = None) -> Templated:
    """The turns of `text` and its last, the assistant's, which may be cut off by a token limit.

    Where `text` begins with `prompt`, all the rest is the answer, whatever it holds: a policy that
    spells control tokens cannot open turns of its own. Raises InvalidInput.
    """
    head, answer = _split_at_prompt(text, prompt) or _split_at_last_turn(text)
    if not answer:
        raise InvalidInput("the assistant's turn is empty; there is nothing to score")
    return Templated(tuple(_turns(head)), answer)


def _split_at_prompt(text: str, prompt: str | None) -> tuple[str, str] | None:
    header = IM_START + ANSWER_HEADER
    if prompt is None or not prompt.endswith(header):
        return None
    bare = PICTURE.sub(ONE_PAD, prompt)
    if pictures := len(PICTURE.findall(prompt)):
        text = PICTURE.sub(ONE_PAD, text, count=pictures)
    if not text.startswith(bare):
        return None
    return bare.removesuffix(header), END.sub("", text[len(bare) :], count=1)


def _split_at_last_turn(text: str) -> tuple[str, str]:
    place = text.rfind(IM_START)
    if place < 0:
        raise InvalidInput(
            f"there is no {IM_START}: send the whole conversation as the chat template writes it"
        )
    header = IM_START + ANSWER_HEADER
    if not text.startswith(header, place):
        raise InvalidInput(
            f"the last turn must be the assistant's, {IM_START}assistant and a newline before the "
            "answer; it is what is scored"
        )
    answer = END.sub("", text[place + len(header) :], count=1)
    if IM_END in answer:
        raise InvalidInput(f"something follows the {IM_END} of the answer; the answer must be last")
    return text[:place], answer


def _turns(head: str) -> list[ReadTurn]:
    turns: list[ReadTurn] = []
    # By place, never by cutting the head shorter: that would copy it once for every turn.
    place = 0
    while place < len(head):
        where = f"turn {len(turns) + 1}"
        role, start = _role(head, place, where)
        end = head.find(CLOSING, start)
        content = head[start:end]
        if end < 0 or IM_START in content or IM_END in content:
            raise InvalidInput(f"{where} ({role}) is not closed by {IM_END} and a newline")
        turns.append(ReadTurn(role, _texts(content, f"{where} ({role})")))
        place = end + len(CLOSING)
    if not turns:
        raise InvalidInput("there is no turn before the assistant's; the user's turn is missing")
    return turns


def _role(head: str, place: int, where: str) -> tuple[Role, int]:
    if not head.startswith(IM_START, place):
        raise InvalidInput(f"{where} does not begin with {IM_START}; the start may be cut off")
    for role in ROLES:
        if head.startswith(opening := f"{IM_START}{role}\n", place):
            return role, place + len(opening)
    raise InvalidInput(
        f"{where} must name its role, system, user or assistant, and then begin a new line"
    )


def _texts(content: str, where: str) -> tuple[str, ...]:
    texts = tuple(PICTURE.split(content))
    rest = "".join(texts)
    if VIDEO_PAD in rest:
        raise NotSupported(f"{where} holds a video; send single pictures of it")
    if any(token in rest for token in (VISION_START, IMAGE_PAD, VISION_END)):
        raise InvalidInput(f"{where} has picture tokens outside of {ONE_PAD}; they show no picture")
    return texts
