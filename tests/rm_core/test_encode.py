"""Text, pixels and positions equal the library's, and a caller's text is only ever text."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from tokenizers import Tokenizer
from transformers import AutoTokenizer, Qwen2_5_VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)

from rm_core.chat import CHAT_TEMPLATE, render
from rm_core.encode import Encoder
from rm_core.errors import InvalidImage, InvalidInput, TooManyPixels, TooManyTokens
from rm_core.images import PixelRules, decode, encode_image, resize_target
from rm_core.png import ADAM7
from rm_core.scorer import Scorer
from rm_core.types import Conversation, ScoreGroup, TextPart, Turn
from tests.checkpoints import RULES, small_config
from tests.groups import GROUPS, multi_turn, one_image, picture
from tests.model_card import TEMPLATE, message

NEWLINE, IM_END = 198, 151645
CONTROL = [
    "<|im_end|>",
    "<|im_start|>",
    "<|image_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|video_pad|>",
    "<|endoftext|>",
]


@pytest.fixture(scope="module")
def encoder(real_tokenizer: Tokenizer) -> Encoder:
    return Encoder(real_tokenizer, RULES)


@pytest.fixture(scope="module")
def stock_tokenizer(released_checkpoint: Path) -> Any:
    return AutoTokenizer.from_pretrained(released_checkpoint)


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, TEMPLATE], ids=["ours", "released"])
@pytest.mark.parametrize("name", GROUPS)
def test_the_text_is_what_the_template_writes(
    name: str, template: str, stock_tokenizer: Any
) -> None:
    group = GROUPS[name]()
    for response in group.responses:
        turns = (*group.conversation.turns, Turn("assistant", (TextPart(response),)))
        messages = [message(turn) for turn in turns]
        written = stock_tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False
        )
        assert render(group.conversation, response) == written


def test_golden_ids_of_a_whole_conversation(encoder: Encoder) -> None:
    encoded = encoder.encode(ScoreGroup(Conversation.ask("Hi"), ("Yes",)))
    assert encoded.prefix_ids_P.tolist() == [
        *(151644, 8948, 198, 2610, 525, 264, 10950, 17847, 13, 151645, 198),
        *(151644, 872, 198, 13048, 151645, 198, 151644, 77091, 198),
    ]
    assert encoded.answer_ids[0].tolist() == [9454, IM_END, NEWLINE]


@pytest.mark.parametrize("name", GROUPS)
def test_ids_equal_the_tokenized_template(
    name: str, encoder: Encoder, stock_tokenizer: Any
) -> None:
    group = GROUPS[name]()
    encoded = encoder.encode(group)
    pads = encoded.image_tokens - len(encoded.images)
    for response, ids in zip(group.responses, encoded.answer_ids, strict=True):
        whole = [*encoded.prefix_ids_P.tolist(), *ids.tolist()]
        stock = stock_tokenizer(render(group.conversation, response))["input_ids"]
        assert len(whole) == len(stock) + pads
        assert [i for i in whole if i != 151655] == [i for i in stock if i != 151655]
        assert whole[-2:] == [IM_END, NEWLINE]


@pytest.mark.parametrize("token", CONTROL)
def test_a_control_token_typed_by_a_caller_is_text(token: str, encoder: Encoder) -> None:
    plain = encoder.encode(ScoreGroup(Conversation.ask("x"), ("y",)))
    typed = encoder.encode(ScoreGroup(Conversation.ask(f"x{token}"), (f"{token}y{token}",)))
    special = encoder.tokenizer.token_to_id(token)

    counts = [
        [*encoded.prefix_ids_P, *encoded.answer_ids[0]].count(special) for encoded in (typed, plain)
    ]
    assert counts[0] == counts[1]
    assert typed.image_tokens == 0
    assert typed.answer_ids[0][-1] == NEWLINE


@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_resize_target_equals_the_library(height: int, width: int) -> None:
    rules = PixelRules(max_pixels=28 * 28 * 1280)
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(InvalidImage, match="elongated"):
            resize_target(height, width, rules)
    else:
        theirs = smart_resize(height, width, 28, rules.min_pixels, rules.max_pixels)
        assert resize_target(height, width, rules) == theirs


@settings(max_examples=25, deadline=None)
@given(height=st.integers(10, 400), width=st.integers(10, 400), seed=st.integers(0, 99))
def test_patches_equal_the_released_processor(height: int, width: int, seed: int) -> None:
    image = picture(seed, height, width)
    ours = encode_image(image, RULES)
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": RULES.min_pixels, "longest_edge": RULES.max_pixels}
    )
    theirs = processor([Pillow.fromarray(image.pixels)], return_tensors="pt")
    assert list(ours.grid_thw) == theirs["image_grid_thw"][0].tolist()
    mean, std = (np.array(v)[:, None] * 255 for v in (RULES.image_mean, RULES.image_std))
    normal = (ours.patches.reshape(len(ours.patches), 3, -1) - mean) / std
    assert np.abs(normal.reshape(ours.patches.shape) - theirs["pixel_values"].numpy()).max() < 1e-5


@pytest.mark.parametrize("name", GROUPS)
def test_positions_equal_the_library(name: str, encoder: Encoder) -> None:
    group = GROUPS[name]()
    encoded = encoder.encode(group)
    with torch.device("meta"):
        model: Any = Qwen2_5_VLModel(small_config(encoder.tokenizer))
    grids = torch.tensor([image.grid_thw for image in encoded.images]).reshape(-1, 3)
    for ids in encoded.answer_ids:
        row = torch.from_numpy(np.concatenate([encoded.prefix_ids_P, ids]))[None]
        is_image = (row == 151655).int()
        theirs, _ = model.get_rope_index(
            row, is_image, image_grid_thw=grids if len(grids) else None
        )
        answer = np.broadcast_to(np.arange(len(ids)) + encoded.answers_start, (3, len(ids)))
        ours = np.concatenate([encoded.prefix_positions_3P, answer], axis=1)
        assert np.array_equal(ours, theirs[:, 0].numpy())


def file_bytes(mode: str, size: tuple[int, int], fmt: str) -> bytes:
    buffer = io.BytesIO()
    Pillow.new(mode, size, 1 if mode != "RGB" else (200, 10, 10)).save(buffer, fmt)
    return buffer.getvalue()


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP"])
def test_accepted_formats_decode_to_rgb(fmt: str) -> None:
    image = decode(file_bytes("RGB", (30, 20), fmt), max_pixels=10_000)
    assert image.pixels.shape == (20, 30, 3)
    assert np.abs(image.pixels.mean((0, 1)) - (200, 10, 10)).max() < 4


def test_a_transparent_picture_is_seen_on_white() -> None:
    image = decode(file_bytes("RGBA", (8, 8), "PNG"), max_pixels=10_000)
    assert image.pixels.min() > 250


HUGE = file_bytes("1", (20_000, 20_000), "PNG")
BROKEN = {
    "not a picture": b"hello",
    "empty": b"",
    "gif": file_bytes("P", (8, 8), "GIF"),
    "cut png": file_bytes("RGB", (300, 300), "PNG")[:-20],
    "png without its last rows": file_bytes("RGB", (300, 300), "PNG")[:200],
    "cut jpeg": file_bytes("RGB", (300, 300), "JPEG")[:-400],
    "cut webp": file_bytes("RGB", (300, 300), "WEBP")[:-40],
}


def png_of(raw: bytes, width: int, height: int, depth: int, colour: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("rows", [1, 20, 39])
def test_a_png_that_ends_at_a_row_is_refused(rows: int) -> None:
    row = bytes([0]) + bytes([200, 10, 10]) * 30
    with pytest.raises(InvalidImage, match="rows are missing"):
        decode(png_of(row * rows, 30, 40, depth=8, colour=2), max_pixels=10_000)


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_a_black_last_row_is_no_missing_row(mode: str, interlace: bool) -> None:
    buffer = io.BytesIO()
    Pillow.new(mode, (31, 21), 0).save(buffer, "PNG")
    data = buffer.getvalue() if not interlace else interlaced(mode)
    assert decode(data, max_pixels=10_000).pixels.shape == (21, 31, 3)


def interlaced(mode: str) -> bytes:
    """All-black rows of all seven passes; Pillow reads interlaced files and writes none."""
    depth, colour, channels = {
        "RGB": (8, 2, 3), "L": (8, 0, 1), "RGBA": (8, 6, 4), "P": (8, 0, 1), "1": (1, 0, 1)
    }[mode]  # fmt: skip
    raw = b""
    for x, y, step_x, step_y in ADAM7:
        columns, rows = -(-(31 - x) // step_x), -(-(21 - y) // step_y)
        raw += bytes(1 + -(-columns * depth * channels // 8)) * rows
    data = bytearray(png_of(raw, 31, 21, depth, colour))
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


@pytest.mark.parametrize("fmt", ["PNG", "WEBP"])
def test_an_animated_picture_is_refused(fmt: str) -> None:
    frames = [Pillow.new("RGB", (30, 20), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, fmt, save_all=True, append_images=frames[1:])
    with pytest.raises(InvalidImage, match="animated"):
        decode(buffer.getvalue(), max_pixels=10_000)


def test_sixteen_bits_of_grey_are_seen_as_grey() -> None:
    grey = Pillow.fromarray(np.full((20, 30), 0x8000, np.uint16))
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    assert set(decode(buffer.getvalue(), max_pixels=10_000).pixels.flat) == {128}


def test_a_png_with_something_behind_it_is_refused_for_what_it_is() -> None:
    with pytest.raises(InvalidImage, match="goes on after its end chunk"):
        decode(file_bytes("RGB", (30, 20), "PNG") + bytes(100), max_pixels=10_000)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_bytes_are_refused(name: str) -> None:
    with pytest.raises(InvalidImage, match="send the whole file"):
        decode(BROKEN[name], max_pixels=10_000_000)


def test_a_huge_picture_is_refused_by_its_header() -> None:
    with pytest.raises(TooManyPixels, match="limit is 50000000"):
        decode(HUGE, max_pixels=50_000_000)
    with pytest.raises(TooManyPixels, match="3000x2000 = 6000000"):
        decode(file_bytes("1", (3_000, 2_000), "PNG"), max_pixels=5_999_999)


@pytest.mark.parametrize(
    ("make", "message_part"),
    [
        (lambda: ScoreGroup(Conversation.ask("x"), ()), "at least one response"),
        (lambda: ScoreGroup(Conversation.ask("x"), ("a", "")), "must not be empty"),
        (lambda: Conversation(()), "must be the user's"),
        (lambda: Conversation((Turn("assistant", (TextPart("x"),)),)), "must be the user's"),
        (
            lambda: Conversation(
                (Turn("user", ()), Turn("system", ()), Turn("user", (TextPart("x"),)))
            ),
            "first place",
        ),
    ],
    ids=["no answers", "empty answer", "no turns", "ends with assistant", "late system"],
)
def test_what_cannot_be_scored_is_refused(make: object, message_part: str) -> None:
    assert callable(make)
    with pytest.raises(InvalidInput, match=message_part):
        make()


def test_too_long_is_refused_with_both_lengths(random_scorer: Scorer) -> None:
    with pytest.raises(TooManyTokens, match=r"the limit is 4096") as refusal:
        random_scorer.encode(ScoreGroup(Conversation.ask("x" * 5000), ("y",)))
    assert refusal.value.tokens > 5000


def test_counts_add_up(random_scorer: Scorer) -> None:
    for group in (one_image(), multi_turn()):
        encoded = random_scorer.encode(group)
        assert encoded.num_tokens == encoded.prompt_tokens + sum(encoded.answer_tokens)
        assert encoded.longest == encoded.prompt_tokens + max(encoded.answer_tokens)
        assert encoded.num_patches == 4 * encoded.image_tokens
