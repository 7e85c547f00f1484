"""Conversation -> the exact text of Qwen2.5-VL's chat template; the scored token ends it.

Control tokens are written only here. Whatever a caller types, `<|im_end|>` included, is text.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from rm_core.types import Conversation, Image, ImagePart, TextPart, Turn

DEFAULT_SYSTEM = "You are a helpful assistant."
IM_START, IM_END = "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"
ANSWER_HEADER = "assistant\n"

# What this module does, in the form other tools read; saved with every checkpoint we write.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if loop.first and message.role != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type in ('image', 'image_url') or 'image' in part or 'image_url' in part -%}
{{ '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part.type == 'video' or 'video' in part -%}
{{ '<|vision_start|><|video_pad|><|vision_end|>' }}
{%- elif 'text' in part -%}
{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
TEMPLATE_DIGEST = "sha256:" + hashlib.sha256(CHAT_TEMPLATE.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Control:
    """A control token, by its name in the vocabulary."""

    token: str


Piece: TypeAlias = Control | Image | str


def prompt_pieces(conversation: Conversation) -> list[Piece]:
    """Everything up to the answer's own `<|im_start|>`; neighbouring texts are already joined."""
    pieces: list[Piece] = []
    for turn in _with_system(conversation):
        pieces.extend(_turn_pieces(turn))
    pieces.append(Control(IM_START))
    return _join_texts(pieces)


def answer_pieces(response: str) -> list[Piece]:
    """One answer after the shared prompt. Its last piece is the newline whose token is scored."""
    return [ANSWER_HEADER + response, Control(IM_END), "\n"]


def render(conversation: Conversation, response: str) -> str:
    """The text `apply_chat_template` writes, one `<|image_pad|>` a picture."""
    pieces = prompt_pieces(conversation) + answer_pieces(response)
    return "".join(_as_text(piece) for piece in pieces)


def _with_system(conversation: Conversation) -> Iterator[Turn]:
    if conversation.turns[0].role != "system":
        yield Turn("system", (TextPart(DEFAULT_SYSTEM),))
    yield from conversation.turns


def _turn_pieces(turn: Turn) -> Iterator[Piece]:
    yield Control(IM_START)
    yield f"{turn.role}\n"
    for part in turn.parts:
        if isinstance(part, ImagePart):
            yield Control(VISION_START)
            yield part.image
            yield Control(VISION_END)
        else:
            yield part.text
    yield Control(IM_END)
    yield "\n"


def _join_texts(pieces: list[Piece]) -> list[Piece]:
    # Byte-pair merges cross our borders ("user\n" + "\nHello"), so a run of text is one string.
    joined: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def _as_text(piece: Piece) -> str:
    if isinstance(piece, Control):
        return piece.token
    return piece if isinstance(piece, str) else IMAGE_PAD
