"""Tensor names of every Qwen2.5-VL layout -> the names of our modules; none left over."""

from collections.abc import Collection, Mapping

from rm_core.errors import CheckpointMismatch

# Longest prefix wins. Checkpoints saved before transformers 4.52 say `model.layers`, `visual.`;
# later ones `model.language_model.layers`, `model.visual.`.
BACKBONE: Mapping[str, str] = {
    "model.language_model.": "backbone.language_model.",
    "model.visual.": "backbone.visual.",
    "visual.": "backbone.visual.",
    "model.": "backbone.language_model.",
}
VALUE_HEAD: Mapping[str, str] = {
    "v_head.summary.": "head.",
    "v_head.mlp.up.": "head.up.",
    "v_head.mlp.down.": "head.down.",
}
SCORE_HEAD: Mapping[str, str] = {"score.": "head."}
# The vocabulary head belongs to the released files and has no part in a score.
UNUSED = frozenset({"lm_head.weight"})


def rename_all(names: Collection[str], renames: Mapping[str, str], where: str) -> dict[str, str]:
    """File name of a tensor -> our name. Refuses unknown prefixes and two names for one tensor."""
    renamed = {name: _rename(name, renames) for name in names if name not in UNUSED}
    unknown = [name for name, ours in renamed.items() if ours is None]
    if unknown:
        raise CheckpointMismatch(where, extra=sorted(unknown))
    known = {name: ours for name, ours in renamed.items() if ours is not None}
    if doubled := sorted(name for name in known if _count(known, name) > 1):
        raise CheckpointMismatch(f"{where}: several names for one tensor", extra=doubled)
    return known


def require_exactly(ours: Collection[str], expected: Collection[str], where: str) -> None:
    """Every expected tensor once, nothing else."""
    missing, extra = set(expected) - set(ours), set(ours) - set(expected)
    if missing or extra:
        raise CheckpointMismatch(where, missing=sorted(missing), extra=sorted(extra))


def _rename(name: str, renames: Mapping[str, str]) -> str | None:
    fitting = [prefix for prefix in renames if name.startswith(prefix)]
    if not fitting:
        return None
    longest = max(fitting, key=len)
    return renames[longest] + name.removeprefix(longest)


def _count(renamed: Mapping[str, str], name: str) -> int:
    return list(renamed.values()).count(renamed[name])
