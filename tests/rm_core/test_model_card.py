"""Our scores are the model card's scores: same text, pixels, positions, weights and token."""

from pathlib import Path

import pytest
import torch

from rm_core.scorer import Scorer
from tests.groups import GROUPS, all_groups
from tests.model_card import ModelCard

pytestmark = pytest.mark.usefixtures("whole_float64")
TOLERANCE = {"float32": 1e-5, "float64": 1e-9}


@pytest.fixture(scope="module", params=["float32", "float64"])
def pair(
    request: pytest.FixtureRequest, released_checkpoint: Path
) -> tuple[Scorer, ModelCard, float]:
    dtype = request.param
    scorer = Scorer.load(released_checkpoint, device="cpu", dtype=dtype)
    card = ModelCard(released_checkpoint, getattr(torch, dtype))
    return scorer, card, TOLERANCE[dtype]


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_scores_as_the_card_says(name: str, pair: tuple[Scorer, ModelCard, float]) -> None:
    scorer, card, tolerance = pair
    group = GROUPS[name]()
    assert scorer.score([group])[0] == pytest.approx(card.score(group), abs=tolerance)


def test_all_groups_in_one_batch_score_as_the_card_says(
    pair: tuple[Scorer, ModelCard, float],
) -> None:
    scorer, card, tolerance = pair
    groups = all_groups()
    for ours, group in zip(scorer.score(groups), groups, strict=True):
        assert ours == pytest.approx(card.score(group), abs=tolerance)


def test_scores_are_spread_enough_to_tell_an_error(
    pair: tuple[Scorer, ModelCard, float],
) -> None:
    scorer, _, _ = pair
    scores = torch.tensor([s for scores in scorer.score(all_groups()) for s in scores])
    assert scores.std() > 0.1
