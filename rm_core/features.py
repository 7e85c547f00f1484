"""Picture features kept between forward passes: a picture shown again is not looked at again."""

from collections.abc import Container

import torch
from torch import Tensor

from rm_core.lru import ByteLru
from rm_core.model import RewardModel
from rm_core.packing import PackedBatch


class FeatureCache:
    """Merged picture tokens by digest, for one model under one pixel budget. 0 bytes: off."""

    def __init__(self, limit_bytes: int) -> None:
        self.kept: ByteLru[str, Tensor] = ByteLru(limit_bytes, lambda _, features: features.nbytes)

    @torch.no_grad()
    def of(self, model: RewardModel, batch: PackedBatch) -> Tensor | None:
        """The batch's features (F, hidden) in its order; None: the model is to make them itself."""
        if self.kept.is_off or batch.patches is None:
            return None
        found = {digest: self.kept.get(digest) for digest in batch.image_digests}
        features = {digest: kept for digest, kept in found.items() if kept is not None}
        for digest, made in _make(model, batch, features).items():
            features[digest] = made
            self.kept.put(digest, made.clone())  # a view would keep its whole batch alive
        return torch.cat([features[digest] for digest in batch.image_digests])


def _make(model: RewardModel, batch: PackedBatch, known: Container[str]) -> dict[str, Tensor]:
    """Features of the pictures not known yet, in one call of the tower."""
    assert batch.patches is not None
    assert batch.grid_thw is not None
    missing = [i for i, digest in enumerate(batch.image_digests) if digest not in known]
    if not missing:
        return {}
    pieces = torch.split(batch.patches, batch.grid_thw.prod(dim=1).tolist())
    grids = batch.grid_thw[missing]
    made_FD = model.image_features(torch.cat([pieces[i] for i in missing]), grids)
    sizes = (grids.prod(dim=1) // model.rules.merge_size**2).tolist()
    digests = [batch.image_digests[i] for i in missing]
    return dict(zip(digests, torch.split(made_FD, sizes), strict=True))
