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
from rm_core.layout import Find, Fresh, GroupSpan, PrefixKey, lay_out


@dataclass(frozen=True, eq=False, slots=True)
class PackedBatch:
    """One row of T tokens with N scored answers and the distinct pictures it shows."""

    input_ids_T: Tensor
    positions_3T: Tensor
    score_index_N: Tensor
    spans: tuple[GroupSpan, ...]
    shared: tuple[GroupSpan, ...]  # beginnings of several groups; nothing in them is scored
    computed_tokens: tuple[int, ...]  # how much of the row each group added
    cached: tuple[tuple[PrefixKey, Tensor], ...]  # (layers, 2, rows, key heads, head size) each
    fresh: tuple[Fresh, ...]  # pieces of prompts that this row computes
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

    @property
    def cached_rows(self) -> int:
        return sum(entry.shape[2] for _, entry in self.cached)

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


def pack(
    groups: Sequence[EncodedGroup],
    image_pad_id: int,
    merge_size: int,
    find: Find[Tensor] | None = None,
) -> PackedBatch:
    """Lay groups one after another. Order of scores: groups in order, answers in order.

    With `find`, beginnings of prompts that several groups share are laid out once, and those it
    still knows the keys and values of are left out of the row.
    """
    assert groups, "an empty batch has no scores"
    layout = lay_out(groups, find)
    ids_T = np.concatenate(layout.ids)
    distinct = {image.digest: image for image in layout.images}
    shown = [image.digest for image in layout.images]
    return PackedBatch(
        input_ids_T=torch.from_numpy(ids_T),
        positions_3T=torch.from_numpy(np.concatenate(layout.positions, axis=1)),
        score_index_N=torch.tensor(_score_indices(layout.spans)),
        spans=tuple(layout.spans),
        shared=tuple(layout.shared),
        computed_tokens=tuple(layout.computed),
        cached=tuple(layout.cached.items()),
        fresh=tuple(layout.fresh),
        patches=_patches(distinct),
        grid_thw=_grids(distinct),
        image_digests=tuple(distinct),
        image_index_M=torch.from_numpy(np.flatnonzero(ids_T == image_pad_id)),
        feature_index_M=torch.from_numpy(_feature_rows(distinct, shown, merge_size)),
    )


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
