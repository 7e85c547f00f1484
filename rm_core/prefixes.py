"""Keys and values of prompts' beginnings, kept between forward passes and handed to attention.

Every turn and picture is a piece of its own. A piece is found only with everything before it, so
what it attends to is what it attended to when it was computed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rm_core.layout import NOTHING, PrefixKey
from rm_core.lru import ByteLru
from rm_core.packing import PackedBatch


class PrefixCache:
    """Pieces by all their tokens and pictures from the first on, for one model. 0 bytes: off."""

    def __init__(self, limit_bytes: int) -> None:
        self.kept: ByteLru[PrefixKey, Tensor] = ByteLru(
            limit_bytes, lambda key, piece: len(key[0]) + piece.nbytes
        )

    def past(self, batch: PackedBatch) -> "Past | None":
        """What the layers of this batch's forward pass read and write; None while off."""
        if self.kept.is_off:
            return None
        rows = [row for fresh in batch.fresh for row in fresh.rows]
        rows_F = torch.tensor(rows, dtype=torch.long, device=batch.input_ids_T.device)
        return Past([entry for _, entry in batch.cached], rows_F)

    def keep(self, batch: PackedBatch, past: "Past") -> None:
        """Remember what the pass computed; a piece whose beginning is not kept is useless."""
        pieces = torch.split(past.computed(), [len(fresh.rows) for fresh in batch.fresh], dim=2)
        for fresh, piece in zip(batch.fresh, pieces, strict=True):
            if fresh.parent == NOTHING or fresh.parent in self.kept:
                self.kept.put(fresh.key, piece.clone())  # a view would keep its whole batch alive
        # Beginnings were used last, so that they leave last.
        for key in (
            *reversed([f.key for f in batch.fresh]),
            *reversed([k for k, _ in batch.cached]),
        ):
            self.kept.touch(key)


class Past:
    """One forward pass's exchange with the cache: layer by layer, in order."""

    def __init__(self, cached: Sequence[Tensor], fresh_rows_F: Tensor) -> None:
        self._cached, self._fresh_rows_F = cached, fresh_rows_F
        self._computed: list[Tensor] = []

    def extend(self, layer: int, k_TKD: Tensor, v_TKD: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's keys and values with the cached rows before them."""
        rows = self._fresh_rows_F
        self._computed.append(torch.stack([k_TKD[rows], v_TKD[rows]]))
        if not self._cached:
            return k_TKD, v_TKD
        return (
            torch.cat([*(entry[layer, 0] for entry in self._cached), k_TKD]),
            torch.cat([*(entry[layer, 1] for entry in self._cached), v_TKD]),
        )

    def computed(self) -> Tensor:
        """(layers, 2, fresh rows, key heads, head size)."""
        return torch.stack(self._computed)
