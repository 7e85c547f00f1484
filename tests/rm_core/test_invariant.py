"""Score mode invariant: the same request, the same bits, whatever else is asked."""

from pathlib import Path
from random import Random

import pytest

from rm_core.errors import InvalidInput, UnknownName
from rm_core.options import Options
from rm_core.scorer import Scorer
from rm_core.types import Conversation, ScoreGroup
from tests.groups import all_groups, picture

COMPOSITIONS = 200


def pool() -> list[ScoreGroup]:
    """Groups of many shapes, some with the same prompt or picture."""
    shown = [picture(seed, 28 * (seed + 1), 56) for seed in range(3)]
    asked = [
        ScoreGroup(Conversation.ask(question, *images), ("yes", "no, it is not"))
        for question in ("a cat?", "what is to be seen in this picture?")
        for images in ((), (shown[0],), tuple(shown))
    ]
    return [*all_groups(), *asked]


def test_bitwise_the_same_in_any_mix_and_position(random_checkpoint: Path) -> None:
    scorer = Scorer.load(random_checkpoint, options=Options(score_mode="invariant"))
    groups = [scorer.encode(group) for group in pool()]
    alone = [scorer.score_encoded([group])[0] for group in groups]
    rng = Random(0)
    for _ in range(COMPOSITIONS):
        chosen = rng.choices(range(len(groups)), k=rng.randint(1, 5))
        mixed = scorer.score_encoded([groups[i] for i in chosen])
        assert mixed == [alone[i] for i in chosen]


def test_the_fast_mode_really_differs_in_bits(random_scorer: Scorer) -> None:
    """Else the test above would show nothing."""
    groups = [random_scorer.encode(group) for group in pool()]
    alone = [random_scorer.score_encoded([group])[0] for group in groups]
    assert random_scorer.score_encoded(groups) != alone


def test_an_unknown_mode_lists_those_there_are() -> None:
    with pytest.raises(UnknownName, match="fast, invariant"):
        Options(score_mode="exact")


def test_invariant_and_caches_exclude_each_other() -> None:
    with pytest.raises(InvalidInput, match="keeps nothing"):
        Options(score_mode="invariant", prefix_cache_bytes=1)
