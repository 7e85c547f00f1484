"""A stage's data as a pure function of the step, so that resuming needs no bookkeeping.

The order is fixed by the seed before the first step: which source each group comes from, and
which of its rows. Any worker can then prepare any step, and prepares the same one.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rm_core.encode import EncodedGroup, Encoder
from rm_core.errors import InvalidInput, TooLarge, TooManyTokens
from training.data.records import BrokenRow, Preference


class Source(Protocol):
    """Preferences by number: a folder has so many rows, a generator has no end (`size` None)."""

    @property
    def size(self) -> int | None: ...

    def row(self, index: int) -> Preference: ...


@dataclass(frozen=True)
class Row:
    """One preference, encoded; a strength for each rejected answer."""

    task: str
    encoded: EncodedGroup
    strengths: tuple[float, ...]


@dataclass(frozen=True)
class Refused:
    """A row that was left out: its id and source, the number of the stage's data, and why."""

    id: str
    source: str
    number: int
    reason: str


@dataclass(frozen=True)
class Batch:
    """The rows of one optimiser step, and those that were refused."""

    step: int
    rows: tuple[Row, ...]
    refused: tuple[Refused, ...]


@dataclass(frozen=True)
class Order:
    """For each position of a stage: the source, and how many rows of it came before."""

    source_of: NDArray[np.int32]
    turn: NDArray[np.int64]
    seed: int

    @classmethod
    def draw(cls, weights: Sequence[float], total: int, seed: int) -> "Order":
        shares = np.array(weights) / np.sum(weights)
        drawn = np.random.default_rng(seed).choice(len(weights), size=total, p=shares)
        turn = np.empty(total, np.int64)
        for number in range(len(weights)):
            mine = drawn == number
            turn[mine] = np.arange(mine.sum())
        return cls(drawn.astype(np.int32), turn, seed)

    def pick(self, position: int, sizes: Sequence[int | None]) -> tuple[int, int]:
        """(source, row): every row of a folder once an epoch, each epoch in another order."""
        number, turn = int(self.source_of[position]), int(self.turn[position])
        size = sizes[number]
        if size is None:
            return number, turn
        epoch, place = divmod(turn, size)
        return number, int(_shuffled(size, self.seed, number, epoch)[place])


@lru_cache(maxsize=64)
def _shuffled(size: int, seed: int, number: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, number, epoch)).permutation(size)


@dataclass(frozen=True)
class StageData:
    """Everything a worker needs to prepare any step of a stage."""

    sources: tuple[Source, ...]
    order: Order
    encoder: Encoder
    batch: int
    max_tokens: int
    takes_ties: bool = False

    def prepare(self, step: int) -> Batch:
        """Rows through the same encoder as serving; what it cannot take is left out by name."""
        prepared = [
            self._prepare(position)
            for position in range(step * self.batch, (step + 1) * self.batch)
        ]
        return Batch(
            step,
            tuple(row for row in prepared if isinstance(row, Row)),
            tuple(row for row in prepared if isinstance(row, Refused)),
        )

    def _prepare(self, position: int) -> Row | Refused:
        number, index = self.order.pick(position, [source.size for source in self.sources])
        try:
            preference = self.sources[number].row(index)
        except BrokenRow as error:
            return Refused(error.row, error.source, number, error.reason)
        try:
            return self._encode(preference)
        except (InvalidInput, TooLarge) as error:
            return Refused(preference.id, preference.source, number, error.message)

    def _encode(self, preference: Preference) -> Row:
        if preference.tied and not self.takes_ties:
            raise InvalidInput(
                "two answers have equal labels (strength 0); only loss 'ties' learns from that"
            )
        encoded = self.encoder.encode(preference.as_group())
        if encoded.longest > self.max_tokens:
            raise TooManyTokens(encoded.longest, self.max_tokens)
        strengths = preference.strengths or (1.0,) * len(preference.rejected)
        return Row(preference.task, encoded, strengths)


def split_by_tokens(rows: Sequence[Row], budget: int | None) -> Iterator[Sequence[Row]]:
    """First-come runs of rows whose tokens fit `budget`; a larger one goes alone."""
    start = tokens = 0
    for index, row in enumerate(rows):
        if budget is not None and index > start and tokens + row.encoded.num_tokens > budget:
            yield rows[start:index]
            start, tokens = index, 0
        tokens += row.encoded.num_tokens
    if rows:
        yield rows[start:]


def seed_for(seed: int, *names: str) -> int:
    """A seed of its own for each named use, the same on every machine and Python."""
    return zlib.crc32("/".join((str(seed), *names)).encode())
