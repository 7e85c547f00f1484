"""How a loaded checkpoint is run; none of it changes which model it is."""

from dataclasses import dataclass

from rm_core.errors import InvalidInput, UnknownName

SCORE_MODES = ("fast", "invariant")


@dataclass(frozen=True, slots=True)
class Options:
    """`fast` packs groups together and keeps what comes back, up to the bounds in bytes.

    `invariant` runs every group alone and keeps nothing: its score is then the same to the last
    bit, whoever else asks at the same time and whatever was asked before.
    """

    attention: str = "auto"
    score_mode: str = "fast"
    feature_cache_bytes: int = 0
    prefix_cache_bytes: int = 0

    def __post_init__(self) -> None:
        if self.score_mode not in SCORE_MODES:
            raise UnknownName("score mode", self.score_mode, SCORE_MODES)
        if self.is_invariant and (self.feature_cache_bytes or self.prefix_cache_bytes):
            raise InvalidInput("score mode invariant keeps nothing: set both caches to 0 bytes")

    @property
    def is_invariant(self) -> bool:
        return self.score_mode == "invariant"
