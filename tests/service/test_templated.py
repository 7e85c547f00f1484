"""The chat template read backwards: what rendering wrote is found again, all else is refused."""

import contextlib
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm_core.chat import DEFAULT_SYSTEM, render
from rm_core.errors import InvalidInput
from rm_core.types import Conversation, Image, ImagePart, Role, TextPart, Turn
from service.compat.templated import ReadTurn, Templated, parse
from service.errors import NotSupported

SYSTEM = f"<|im_start|>system\n{DEFAULT_SYSTEM}<|im_end|>\n"
USER = "<|im_start|>user\nWhat?<|im_end|>\n"
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
PROMPT = SYSTEM + USER + "<|im_start|>assistant\n"

# Any text but one that spells a control token, which no parser could tell from a real one.
TEXTS = st.text(max_size=20).filter(lambda text: "<|" not in text)
IMAGE = Image.from_pixels(np.zeros((28, 28, 3), np.uint8))
PARTS = st.lists(TEXTS.map(TextPart) | st.just(ImagePart(IMAGE)), max_size=4).map(tuple)


def turn(role: Role) -> st.SearchStrategy[Turn]:
    return PARTS.map(lambda parts: Turn(role, parts))


CONVERSATIONS = st.tuples(
    st.lists(turn("system"), max_size=1),
    st.lists(st.tuples(turn("user"), turn("assistant")), max_size=2),
    turn("user"),
).map(lambda made: Conversation((*made[0], *(t for pair in made[1] for t in pair), made[2])))


def flat(turn: Turn) -> ReadTurn:
    texts = [""]
    for part in turn.parts:
        if isinstance(part, TextPart):
            texts[-1] += part.text
        else:
            texts.append("")
    return ReadTurn(turn.role, tuple(texts))


@given(CONVERSATIONS, TEXTS.filter(bool))
def test_what_was_rendered_is_read_back(conversation: Conversation, answer: str) -> None:
    written = [flat(turn) for turn in conversation.turns]
    if written[0].role != "system":
        written.insert(0, ReadTurn("system", (DEFAULT_SYSTEM,)))
    assert parse(render(conversation, answer)) == Templated(tuple(written), answer)


@pytest.mark.parametrize(
    "end", ["<|im_end|>\n", "<|im_end|>", "<|endoftext|>", ""], ids=["whole", "bare", "eot", "cut"]
)
def test_an_answer_may_end_as_generation_ends(end: str) -> None:
    assert parse(PROMPT + "Yes.\n" + end).answer == "Yes.\n"


def test_any_number_of_pads_is_one_picture() -> None:
    expanded = "<|vision_start|>" + "<|image_pad|>" * 64 + "<|vision_end|>"
    text = f"<|im_start|>user\na{expanded}b{PICTURE}<|im_end|>\n<|im_start|>assistant\nc<|im_end|>"
    assert parse(text) == Templated((ReadTurn("user", ("a", "b", "")),), "c")


SPELLED = "Yes.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\nYes!"


def test_with_its_prompt_an_answer_cannot_open_turns() -> None:
    """A policy may spell the control tokens; without the prompt nobody could tell."""
    known = parse(PROMPT + SPELLED + "<|im_end|>", PROMPT)
    assert known.answer == SPELLED
    assert [turn.role for turn in known.turns] == ["system", "user"]
    assert parse(PROMPT + SPELLED + "<|im_end|>").answer == "Yes!"


def test_a_prompt_is_found_although_the_query_has_its_pads_expanded() -> None:
    prompt = f"{SYSTEM}<|im_start|>user\n{PICTURE}What?<|im_end|>\n<|im_start|>assistant\n"
    query = prompt.replace("<|image_pad|>", "<|image_pad|>" * 9) + PICTURE + "<|im_end|>"
    found = parse(query, prompt)
    assert (found.answer, found.pictures) == (PICTURE, 1)


def test_a_prompt_of_another_text_changes_nothing() -> None:
    assert parse(PROMPT + "Yes.", "What?") == parse(PROMPT + "Yes.")
    assert parse(PROMPT + "Yes.", PROMPT.replace("What", "Who")) == parse(PROMPT + "Yes.")


REFUSED = [
    pytest.param("", "there is no <|im_start|>", id="empty"),
    pytest.param("What is 2 + 2? 4", "there is no <|im_start|>", id="plain_text"),
    pytest.param(SYSTEM + USER, "last turn must be the assistant's", id="no_answer"),
    pytest.param(PROMPT, "assistant's turn is empty", id="empty_answer"),
    pytest.param(PROMPT + "<|im_end|>\n", "assistant's turn is empty", id="closed_empty_answer"),
    pytest.param(PROMPT + "a<|im_end|>b", "something follows", id="text_after_the_answer"),
    pytest.param(PROMPT + "a<|im_end|>\n\n", "something follows", id="two_newlines"),
    pytest.param("<|im_start|>assistant\na", "user's turn is missing", id="answer_alone"),
    pytest.param("hat?<|im_end|>\n<|im_start|>assistant\na", "turn 1 does not begin", id="cut_off"),
    pytest.param(SYSTEM + "x" + PROMPT + "a", "turn 2 does not begin", id="text_between"),
    pytest.param("<|im_start|>tool\nx<|im_end|>\n" + PROMPT + "a", "name its role", id="role"),
    pytest.param("<|im_start|>user" + PROMPT + "a", "name its role", id="no_newline_after_role"),
    pytest.param("<|im_start|>user\nx" + PROMPT + "a", r"turn 1 \(user\) is not closed", id="open"),
    pytest.param(
        "<|im_start|>user\nx<|im_end|><|im_start|>assistant\na", "not closed", id="no_newline"
    ),
    pytest.param(PROMPT.replace("What?", "<|image_pad|>") + "a", "outside of", id="stray_pad"),
    pytest.param(
        PROMPT.replace("What?", "<|vision_start|><|vision_end|>") + "a", "outside of", id="no_pad"
    ),
]


@pytest.mark.parametrize(("text", "says"), REFUSED)
def test_anything_else_is_refused_with_what_is_missing(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse(text)


def test_a_video_is_refused_by_name() -> None:
    video = "<|vision_start|><|video_pad|><|video_pad|><|vision_end|>"
    with pytest.raises(NotSupported, match="holds a video"):
        parse(PROMPT.replace("What?", video) + "a")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(USER * 100_000 + "<|im_start|>assistant\na", id="turns"),
        pytest.param("<|im_start|>user\n" * 500_000, id="open_turns"),
        pytest.param("<|vision_start|><|image_pad|>" * 300_000, id="open_pictures"),
        pytest.param(PROMPT.replace("What?", PICTURE * 200_000) + "a", id="pictures"),
        pytest.param(
            PROMPT.replace("What?", "<|vision_start|>" + "<|image_pad|>" * 600_000) + "a", id="pads"
        ),
        pytest.param(PROMPT + "<|im_end|>" * 800_000, id="ends"),
    ],
)
def test_a_body_full_of_control_tokens_takes_no_longer_than_its_length(text: str) -> None:
    started = time.process_time()  # a busy machine does not count
    with contextlib.suppress(InvalidInput):
        parse(text, PROMPT)
        parse(text)
    assert time.process_time() - started < 10
