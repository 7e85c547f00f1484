"""ScoreGroup -> EncodedGroup: the one road used by serving, training and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rm_core import positions
from rm_core.chat import (
    ANSWER_HEADER,
    IM_START,
    IMAGE_PAD,
    VISION_END,
    Control,
    Piece,
    answer_pieces,
    prompt_pieces,
)
from rm_core.errors import CheckpointError
from rm_core.images import EncodedImage, PixelRules, encode_image
from rm_core.types import Image, ScoreGroup

Ids = NDArray[np.int64]
MAX_CUTS = 16


@dataclass(frozen=True, slots=True)
class Cut:
    """A place where a prompt may be cut: its tokens and pictures so far."""

    tokens: int
    images: int


@dataclass(frozen=True, eq=False, slots=True)
class EncodedGroup:
    """Numbers ready for packing: the prompt once, then each answer up to its scored newline."""

    prefix_ids_P: Ids
    prefix_positions_3P: NDArray[np.int64]
    answer_ids: tuple[Ids, ...]
    answers_start: int
    images: tuple[EncodedImage, ...]
    image_tokens: int
    cuts: tuple[Cut, ...]  # after each turn and picture; the last one ends the prompt

    @property
    def prompt_tokens(self) -> int:
        return len(self.prefix_ids_P)

    @property
    def answer_tokens(self) -> tuple[int, ...]:
        return tuple(len(ids) for ids in self.answer_ids)

    @property
    def num_tokens(self) -> int:
        """Tokens the forward pass really computes: the prompt once and every answer."""
        return self.prompt_tokens + sum(self.answer_tokens)

    @property
    def num_patches(self) -> int:
        return sum(image.num_patches for image in self.images)

    @property
    def longest(self) -> int:
        """Length of the longest single conversation: what a context limit speaks about."""
        return self.prompt_tokens + max(self.answer_tokens)


@dataclass(eq=False, slots=True)
class _Prompt:
    """The prompt while it is being written."""

    ids: list[int] = field(default_factory=list)
    position_parts: list[positions.Positions] = field(default_factory=list)
    images: list[EncodedImage] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    image_tokens: int = 0
    next_position: int = 0

    def cut(self) -> None:
        self.cuts.append(Cut(len(self.ids), len(self.images)))

    def add_tokens(self, ids: Sequence[int]) -> None:
        self.ids.extend(ids)
        self.position_parts.append(positions.text_positions(self.next_position, len(ids)))
        self.next_position += len(ids)

    def add_image(self, image: EncodedImage, pad_id: int, merge_size: int) -> None:
        count = image.num_tokens(merge_size)
        self.ids.extend([pad_id] * count)
        start = self.next_position
        self.position_parts.append(positions.image_positions(start, image.grid_thw, merge_size))
        self.next_position = positions.after_image(start, image.grid_thw, merge_size)
        self.images.append(image)
        self.image_tokens += count


def _few(cuts: Sequence[Cut]) -> tuple[Cut, ...]:
    """The first and the last ones: every cut costs a key of all tokens before it."""
    return (*cuts[: MAX_CUTS // 2], *cuts[MAX_CUTS // 2 :][-MAX_CUTS // 2 :])


class Encoder:
    """A checkpoint's tokenizer and pixel rules. Thread-safe; needs no torch."""

    def __init__(self, tokenizer: Tokenizer, rules: PixelRules) -> None:
        # Control tokens typed by a caller stay text; ours are looked up by name instead.
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer, self.rules = tokenizer, rules
        self._header = self._tokenize(ANSWER_HEADER)
        self._image_pad = self._control_id(IMAGE_PAD)

    def encode(self, group: ScoreGroup) -> EncodedGroup:
        """Tokens, positions and patches of one group; nothing is truncated."""
        prompt = self._prompt(prompt_pieces(group.conversation))
        answers = [self._answer_ids(response) for response in group.responses]
        if all(ids[: len(self._header)] == self._header for ids in answers):
            prompt.add_tokens(self._header)
            answers = [ids[len(self._header) :] for ids in answers]
        prompt.cut()
        return EncodedGroup(
            prefix_ids_P=np.array(prompt.ids, dtype=np.int64),
            prefix_positions_3P=positions.join(prompt.position_parts),
            answer_ids=tuple(np.array(ids, dtype=np.int64) for ids in answers),
            answers_start=prompt.next_position,
            images=tuple(prompt.images),
            image_tokens=prompt.image_tokens,
            cuts=_few(prompt.cuts),
        )

    def _prompt(self, pieces: Sequence[Piece]) -> _Prompt:
        prompt, last = _Prompt(), len(pieces) - 1
        for number, piece in enumerate(pieces):
            starts_turn = piece == Control(IM_START) and 0 < number < last
            if starts_turn or pieces[number - 1] == Control(VISION_END):
                prompt.cut()
            if isinstance(piece, Image):
                encoded = encode_image(piece, self.rules)
                prompt.add_image(encoded, self._image_pad, self.rules.merge_size)
            else:
                prompt.add_tokens(self._ids(piece))
        return prompt

    def _answer_ids(self, response: str) -> list[int]:
        return [token for piece in answer_pieces(response) for token in self._ids(piece)]

    def _ids(self, piece: Piece) -> list[int]:
        if isinstance(piece, Control):
            return [self._control_id(piece.token)]
        assert isinstance(piece, str)
        return self._tokenize(piece)

    def _tokenize(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def _control_id(self, token: str) -> int:
        token_id = self.tokenizer.token_to_id(token)
        if token_id is None:
            raise CheckpointError(f"the tokenizer has no {token!r}; it is not a Qwen2.5-VL one")
        return int(token_id)
