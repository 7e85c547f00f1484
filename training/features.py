"""Picture features kept while nothing that makes them is trained."""

from collections.abc import Sequence

from torch import Tensor

from rm_core.features import FeatureCache
from rm_core.model import RewardModel
from rm_core.packing import PackedBatch
from training.data.dataset import Source

LIMIT_BYTES = 1 << 30


class FrozenFeatures:
    """Used while tower and projector are both frozen: then a picture's features are constant."""

    def __init__(self, limit_bytes: int) -> None:
        self._cache = FeatureCache(limit_bytes)
        self._frozen = False

    @classmethod
    def over(cls, sources: Sequence[Source]) -> "FrozenFeatures":
        """Rows of a folder come back every epoch; generated ones never do and are not kept."""
        returning = any(source.size is not None for source in sources)
        return cls(LIMIT_BYTES if returning else 0)

    def follow(self, model: RewardModel) -> None:
        """Look at who is trained now; what was kept is void once the tower moves."""
        self._frozen = not any(p.requires_grad for p in model.backbone.visual.parameters())
        if not self._frozen:
            self._cache.kept.clear()

    def of(self, model: RewardModel, batch: PackedBatch) -> Tensor | None:
        """The batch's features in its order, or None to let the model make them with gradients."""
        return self._cache.of(model, batch) if self._frozen else None
