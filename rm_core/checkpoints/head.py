"""Which reward head a checkpoint's files hold, or have room for."""

from collections.abc import Collection
from pathlib import Path

from rm_core import heads
from rm_core.checkpoints import manifest
from rm_core.checkpoints.tensors import VALUE_HEAD
from rm_core.errors import CheckpointError, CheckpointMismatch
from rm_core.heads import HeadKind


def head_kind(
    folder: Path, names: Collection[str], own: manifest.Manifest | None, fresh: HeadKind | None
) -> HeadKind:
    """The head among `names` (ours), or the `fresh` one where there is none."""
    kind = heads.kind_of(names)
    if fresh is not None:
        _require_room(folder, names, kind, fresh)
        return fresh
    if kind != "mlp" and "head.weight" not in names:
        raise CheckpointMismatch(
            f"{folder.name}: no reward head ({VALUE_HEAD} with v_head.summary.weight, or "
            "score.weight among the shards); a recipe trains a new one with base.head",
            missing=["v_head.summary.weight or score.weight"],
        )
    if own is not None and own.head not in (None, kind):
        raise CheckpointError(
            f"{folder.name}: {manifest.FILE} says the head is {own.head!r}, {VALUE_HEAD} holds "
            f"{kind!r}; export the checkpoint again"
        )
    return kind


def _require_room(folder: Path, names: Collection[str], kind: HeadKind, fresh: HeadKind) -> None:
    if any(name.startswith("head.") for name in names):
        raise CheckpointError(
            f"{folder.name} has a reward head already ({kind}); leave out the fresh one ({fresh}) "
            "to train it on, or start from a base without a head"
        )
