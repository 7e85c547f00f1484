"""EncodedGroups -> PackedBatch: no padding, each prompt and each picture once, explicit scores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rm_core.encode import EncodedGroup
from rm_core.images import EncodedImage


@dataclass(frozen=True, slots=True)
class GroupSpan:
    """Where one group sits in the row: `[prefix | answer 1 | answer 2 | ...]` from `start`."""

    start: int
    prefix: int
    answers: tuple[int, ...]

    @property
    def length(self) -> int:
        return self.prefix + sum(self.answers)

    def answer_starts(self) -> list[int]:
        ends = np.cumsum((self.start + self.prefix, *self.answers))
        return [int(end) for end in ends[:-1]]


@dataclass(frozen=True, eq=False, slots=True)
class PackedBatch:
    """One row of T tokens with N scored answers and the distinct pictures it shows."""

    input_ids_T: Tensor
    positions_3T: Tensor
    score_index_N: Tensor
    spans: tuple[GroupSpan, ...]
    patches: Tensor | None  # uint8, (patches of all distinct pictures, 1176)
    grid_thw: Tensor | None  # int64, (distinct pictures, 3)
    image_digests: tuple[str, ...]
    image_index_M: Tensor  # where picture tokens sit in the row
    feature_index_M: Tensor  # and which row of the image features each one takes

    @property
    def num_scored(self) -> int:
        return len(self.score_index_N)

    @property
    def group_sizes(self) -> list[int]:
        return [len(span.answers) for span in self.spans]

    def to(self, device: torch.device | str) -> "PackedBatch":
        """The same batch with its tensors on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name in self.__dataclass_fields__
            if isinstance(value := getattr(self, name), Tensor)
        }
        return replace(self, **moved)

    def split(self, scores_N: Sequence[float]) -> list[list[float]]:
        """A flat list of scores back into one list per group."""
        rest = iter(scores_N)
        return [[next(rest) for _ in range(size)] for size in self.group_sizes]


def pack(groups: Sequence[EncodedGroup], image_pad_id: int, merge_size: int) -> PackedBatch:
    """Lay groups one after another. Order of scores: groups in order, answers in order."""
    assert groups, "an empty batch has no scores"
    spans = _spans(groups)
    ids_T = np.concatenate([part for group in groups for part in _ids(group)])
    distinct = {image.digest: image for group in groups for image in group.images}
    shown = [image.digest for group in groups for image in group.images]
    return PackedBatch(
        input_ids_T=torch.from_numpy(ids_T),
        positions_3T=torch.from_numpy(np.concatenate([_positions(g) for g in groups], axis=1)),
        score_index_N=torch.tensor(_score_indices(spans)),
        spans=spans,
        patches=_patches(distinct),
        grid_thw=_grids(distinct),
        image_digests=tuple(distinct),
        image_index_M=torch.from_numpy(np.flatnonzero(ids_T == image_pad_id)),
        feature_index_M=torch.from_numpy(_feature_rows(distinct, shown, merge_size)),
    )


def _spans(groups: Sequence[EncodedGroup]) -> tuple[GroupSpan, ...]:
    starts = np.cumsum([0, *(group.num_tokens for group in groups)])
    return tuple(
        GroupSpan(int(start), group.prompt_tokens, group.answer_tokens)
        for start, group in zip(starts, groups, strict=False)
    )


def _ids(group: EncodedGroup) -> list[NDArray[np.int64]]:
    return [group.prefix_ids_P, *group.answer_ids]


def _positions(group: EncodedGroup) -> NDArray[np.int64]:
    # Every answer starts where the prompt ends: it never sees its siblings.
    steps = [np.arange(length) + group.answers_start for length in group.answer_tokens]
    answers_3A = np.broadcast_to(np.concatenate(steps), (3, sum(group.answer_tokens)))
    return np.concatenate([group.prefix_positions_3P, answers_3A], axis=1)


def _score_indices(spans: Sequence[GroupSpan]) -> list[int]:
    return [
        start + length - 1
        for span in spans
        for start, length in zip(span.answer_starts(), span.answers, strict=True)
    ]


def _patches(distinct: dict[str, EncodedImage]) -> Tensor | None:
    if not distinct:
        return None
    return torch.from_numpy(np.concatenate([image.patches for image in distinct.values()]))


def _grids(distinct: dict[str, EncodedImage]) -> Tensor | None:
    if not distinct:
        return None
    return torch.tensor([image.grid_thw for image in distinct.values()])


def _feature_rows(
    distinct: dict[str, EncodedImage], shown: Sequence[str], merge_size: int
) -> NDArray[np.int64]:
    rows: dict[str, NDArray[np.int64]] = {}
    start = 0
    for digest, image in distinct.items():
        count = image.num_tokens(merge_size)
        rows[digest] = np.arange(start, start + count)
        start += count
    return np.concatenate([rows[digest] for digest in shown]) if shown else np.empty(0, np.int64)
