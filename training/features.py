"""Picture features kept while nothing that makes them is trained."""

from collections import OrderedDict

import torch
from torch import Tensor

from rm_core.model import RewardModel
from rm_core.packing import PackedBatch


class FeatureCache:
    """Merged picture tokens by digest, least recently used out first.

    Used only while tower and projector are both frozen: then a picture's features are constant.
    """

    def __init__(self, limit_bytes: int = 1 << 30) -> None:
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes, self._limit = 0, limit_bytes
        self._frozen = False

    def follow(self, model: RewardModel) -> None:
        """Look at who is trained now; what was kept is void once the tower moves."""
        self._frozen = not any(p.requires_grad for p in model.backbone.visual.parameters())
        if not self._frozen:
            self._kept.clear()
            self._bytes = 0

    def of(self, model: RewardModel, batch: PackedBatch, merge_size: int) -> Tensor | None:
        """The batch's features in its order, or None to let the model make them with gradients."""
        if not self._frozen or batch.patches is None:
            return None
        assert batch.grid_thw is not None
        patch_counts = [int(n) for n in batch.grid_thw.prod(dim=1)]
        pieces = torch.split(batch.patches, patch_counts)
        missing = [i for i, d in enumerate(batch.image_digests) if d not in self._kept]
        made = self._make(model, batch, missing, pieces, merge_size)
        found = [self._take(d, made) for d in batch.image_digests]
        self._evict()
        return torch.cat(found)

    def _make(
        self,
        model: RewardModel,
        batch: PackedBatch,
        missing: list[int],
        pieces: tuple[Tensor, ...],
        merge_size: int,
    ) -> dict[str, Tensor]:
        if not missing:
            return {}
        assert batch.grid_thw is not None
        grids = batch.grid_thw[missing]
        with torch.no_grad():
            made_FD = model.image_features(torch.cat([pieces[i] for i in missing]), grids)
        sizes = [int(n) // merge_size**2 for n in grids.prod(dim=1)]
        return {
            batch.image_digests[i]: feature
            for i, feature in zip(missing, torch.split(made_FD, sizes), strict=True)
        }

    def _take(self, digest: str, made: dict[str, Tensor]) -> Tensor:
        if digest in made:
            self._kept[digest] = made[digest].clone()  # a view would keep its whole batch alive
            self._bytes += self._kept[digest].nbytes
        self._kept.move_to_end(digest)
        return self._kept[digest]

    def _evict(self) -> None:
        while self._bytes > self._limit and self._kept:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes
