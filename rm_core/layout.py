"""Where everything of a batch sits in its one row, decided before any tensor is made.

Prompts are cut after every turn and picture. A piece that several groups begin with is laid out
once, one whose keys and values are still at hand not at all; both become context of what follows.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from rm_core.encode import EncodedGroup
from rm_core.images import EncodedImage

# All that the keys and values of a prompt's beginning depend on, for one loaded model.
PrefixKey: TypeAlias = tuple[bytes, tuple[str, ...]]  # token ids, picture digests
NOTHING: PrefixKey = (b"", ())
Held = TypeVar("Held")  # whatever stands for the keys and values of a beginning
Find: TypeAlias = Callable[[PrefixKey], Held | None]


@dataclass(frozen=True, slots=True)
class GroupSpan:
    """Where one group sits in the row: `[prefix | answer 1 | answer 2 | ...]` from `start`.

    `context` lists the keys before the prefix. Keys are counted over the cached rows first, then
    over the row itself.
    """

    start: int
    prefix: int
    answers: tuple[int, ...]
    context: tuple[range, ...] = ()

    @property
    def length(self) -> int:
        return self.prefix + sum(self.answers)

    @property
    def context_length(self) -> int:
        return sum(map(len, self.context))

    def answer_starts(self) -> list[int]:
        ends = np.cumsum((self.start + self.prefix, *self.answers))
        return [int(end) for end in ends[:-1]]


@dataclass(frozen=True, eq=False, slots=True)
class Piece:
    """A stretch of one prompt between two cuts, known by everything from the first token on."""

    key: PrefixKey
    parent: PrefixKey
    group: EncodedGroup
    tokens: range
    images: range

    @property
    def ids(self) -> NDArray[np.int64]:
        return self.group.prefix_ids_P[self.tokens.start : self.tokens.stop]

    @property
    def positions(self) -> NDArray[np.int64]:
        return self.group.prefix_positions_3P[:, self.tokens.start : self.tokens.stop]


@dataclass(frozen=True, slots=True)
class Fresh:
    """A piece this row computes: what it is known by, what comes before it, where it stands."""

    key: PrefixKey
    parent: PrefixKey
    rows: range


@dataclass(eq=False, slots=True)
class Layout(Generic[Held]):
    """The row as it grows: what stands in it, and what stands outside of it."""

    spans: list[GroupSpan] = field(default_factory=list)
    shared: list[GroupSpan] = field(default_factory=list)  # pieces of several groups, no answers
    computed: list[int] = field(default_factory=list)  # tokens each group added to the row
    fresh: list[Fresh] = field(default_factory=list)
    cached: dict[PrefixKey, Held] = field(default_factory=dict)
    images: list[EncodedImage] = field(default_factory=list)  # in the order of their tokens
    ids: list[NDArray[np.int64]] = field(default_factory=list)
    positions: list[NDArray[np.int64]] = field(default_factory=list)
    length: int = 0
    cached_rows: int = 0

    def write(self, ids: NDArray[np.int64], positions: NDArray[np.int64]) -> range:
        rows = range(self.length, self.length + len(ids))
        self.ids.append(ids)
        self.positions.append(positions)
        self.length = rows.stop
        return rows

    def write_piece(self, piece: Piece) -> range:
        rows = self.write(piece.ids, piece.positions)
        self.fresh.append(Fresh(piece.key, piece.parent, rows))
        self.images += piece.group.images[piece.images.start : piece.images.stop]
        return rows


def pieces(group: EncodedGroup) -> list[Piece]:
    """The prompt's pieces in order; together they are the prompt."""
    found: list[Piece] = []
    digests = tuple(image.digest for image in group.images)
    parent, tokens, images = NOTHING, 0, 0
    for cut in group.cuts:
        ids = group.prefix_ids_P[: cut.tokens].astype(np.int32)
        key = (ids.tobytes(), digests[: cut.images])
        spans = range(tokens, cut.tokens), range(images, cut.images)
        found.append(Piece(key, parent, group, *spans))
        parent, tokens, images = key, cut.tokens, cut.images
    return found


def lay_out(groups: Sequence[EncodedGroup], find: Find[Held] | None) -> Layout[Held]:
    """Groups one after another; without `find` nothing is shared between them."""
    layout = Layout[Held]()
    paths = [pieces(group) for group in groups]
    placed = _find_cached(layout, paths, find) if find else {}
    uses = Counter(piece.key for path in paths for piece in path if find)
    for group, path in zip(groups, paths, strict=True):
        before = layout.length
        context = _place(layout, path, uses, placed)
        _write_group(layout, group, path[len(context) :], context)
        layout.computed.append(layout.length - before)
    return layout


def _find_cached(
    layout: Layout[Held], paths: Sequence[Sequence[Piece]], find: Find[Held]
) -> dict[PrefixKey, range]:
    """The key rows of each prompt's longest beginning that is still at hand."""
    placed: dict[PrefixKey, range] = {}
    for piece in (piece for path in paths for piece in path):
        if piece.key in placed or (piece.parent != NOTHING and piece.parent not in placed):
            continue
        if (held := find(piece.key)) is None:
            continue
        layout.cached[piece.key] = held
        placed[piece.key] = range(layout.cached_rows, layout.cached_rows + len(piece.tokens))
        layout.cached_rows += len(piece.tokens)
    return placed


def _place(
    layout: Layout[Held],
    path: Sequence[Piece],
    uses: Counter[PrefixKey],
    placed: dict[PrefixKey, range],
) -> list[range]:
    """The key rows of the pieces outside the group's own span, written where they are new."""
    context: list[range] = []
    for piece in takewhile(lambda piece: piece.key in placed or uses[piece.key] > 1, path):
        if piece.key not in placed:
            rows = layout.write_piece(piece)
            layout.shared.append(GroupSpan(rows.start, len(rows), (), tuple(context)))
            by = layout.cached_rows
            placed[piece.key] = range(rows.start + by, rows.stop + by)
        context.append(placed[piece.key])
    return context


def _write_group(
    layout: Layout[Held], group: EncodedGroup, own: Sequence[Piece], context: list[range]
) -> None:
    start = layout.length
    for piece in own:
        layout.write_piece(piece)
    prefix = layout.length - start
    for ids in group.answer_ids:
        # Every answer starts where the prompt ends: it never sees its siblings.
        steps = np.arange(len(ids)) + group.answers_start
        layout.write(ids, np.broadcast_to(steps, (3, len(ids))))
    layout.spans.append(GroupSpan(start, prefix, group.answer_tokens, tuple(context)))
