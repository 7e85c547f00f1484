"""Picture features kept while nothing that makes them is trained."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from rm_core.model import RewardModel
from rm_core.packing import PackedBatch
from training.data.dataset import Source

LIMIT_BYTES = 1 << 30


class FeatureCache:
    """Merged picture tokens by digest, least recently used out first.

    Used only while tower and projector are both frozen: then a picture's features are constant.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes, self._limit = 0, limit_bytes
        self._frozen = False

    @classmethod
    def over(cls, sources: Sequence[Source]) -> "FeatureCache":
        """Rows of a folder come back every epoch; generated ones never do and are not kept."""
        returning = any(source.size is not None for source in sources)
        return cls(LIMIT_BYTES if returning else 0)

    def follow(self, model: RewardModel) -> None:
        """Look at who is trained now; what was kept is void once the tower moves."""
        trained = any(p.requires_grad for p in model.backbone.visual.parameters())
        self._frozen = self._limit > 0 and not trained
        if not self._frozen:
            self._kept.clear()
            self._bytes = 0

    def of(self, model: RewardModel, batch: PackedBatch) -> Tensor | None:
        """The batch's features in its order, or None to let the model make them with gradients."""
        if not self._frozen or batch.patches is None:
            return None
        made = self._make(model, batch)
        found = [self._take(digest, made) for digest in batch.image_digests]
        self._evict()
        return torch.cat(found)

    def _make(self, model: RewardModel, batch: PackedBatch) -> dict[str, Tensor]:
        """Features of the pictures not kept yet, in one call of the tower."""
        assert batch.patches is not None
        assert batch.grid_thw is not None
        missing = [i for i, d in enumerate(batch.image_digests) if d not in self._kept]
        if not missing:
            return {}
        pieces = torch.split(batch.patches, batch.grid_thw.prod(dim=1).tolist())
        grids = batch.grid_thw[missing]
        with torch.no_grad():
            made_FD = model.image_features(torch.cat([pieces[i] for i in missing]), grids)
        sizes = (grids.prod(dim=1) // model.rules.merge_size**2).tolist()
        digests = [batch.image_digests[i] for i in missing]
        return dict(zip(digests, torch.split(made_FD, sizes), strict=True))

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
