"""Accuracy and calibration figures, worked out by hand."""

import math
from dataclasses import replace

import pytest

from rm_core.calibration import Calibration
from rm_core.scorer import Scorer
from tests.training.conftest import preference
from training.calibrate import fit_on, quality
from training.data.heldout import greyed
from training.evaluate import Judged, Outcome, judge, summary, table

NAME = preference(1)
OTHER = preference(2, "no", "never")


def judged(*scores: float) -> Judged:
    return Judged(NAME if len(scores) == 2 else OTHER, scores)


@pytest.mark.parametrize(
    ("scores", "won"),
    [
        pytest.param((2.0, 1.0), 1.0, id="right"),
        pytest.param((1.0, 2.0), 0.0, id="wrong"),
        pytest.param((1.0, 1.0), 0.5, id="tie"),
        pytest.param((1.0, 0.0, 1.0), 0.75, id="right_and_tie"),
    ],
)
def test_a_row_wins_by_its_pairs_and_a_tie_counts_half(
    scores: tuple[float, ...], won: float
) -> None:
    assert judged(*scores).won == won


def test_the_report_counts_rows_pairs_and_ties() -> None:
    outcome = Outcome((judged(2.0, 1.0), judged(1.0, 0.0, 1.0)), (("row-9", "too long"),))
    found = summary({"pairs": outcome})["pairs"]
    assert isinstance(found, dict)
    assert (found["rows"], found["pairs"], found["ties"]) == (2, 3, 1)
    assert found["tasks"] == {"yes-or-no": 0.875}
    assert found["refused"] == [["row-9", "too long"]]
    assert "| yes-or-no | 0.875 |" in table({"pairs": outcome})


def test_probabilities_are_judged_by_their_formulas() -> None:
    rows = [judged(math.log(3), 0.0), judged(0.0, math.log(3))]  # right with p 3/4, wrong with 1/4
    found = quality(Calibration(), rows)
    assert found.brier == pytest.approx((1 / 16 + 9 / 16) / 2)
    assert found.nll == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)
    assert found.ece == pytest.approx(0.25)  # says 0.75, is right half of the time


def test_calibration_cools_an_overconfident_model() -> None:
    rows = [judged(6.0, 0.0)] * 3 + [judged(0.0, 6.0)]
    fitted = fit_on(rows)
    assert fitted.probability(6.0) == pytest.approx(0.75, abs=0.01)
    assert quality(fitted, rows).ece < quality(Calibration(), rows).ece


def test_the_grey_control_changes_the_pictures_and_nothing_else() -> None:
    grey = greyed(NAME)
    assert grey.conversation.images[0].pixels.shape == NAME.conversation.images[0].pixels.shape
    assert set(grey.conversation.images[0].pixels.ravel().tolist()) == {128}
    assert (grey.chosen, grey.rejected) == (NAME.chosen, NAME.rejected)


def test_a_row_with_equal_labels_is_named_and_not_judged(random_scorer: Scorer) -> None:
    tied = replace(OTHER, strengths=(1.0, 0.0))
    outcome = judge(random_scorer, [NAME, tied])
    assert [one.row.id for one in outcome.judged] == [NAME.id]
    assert outcome.refused == ((OTHER.id, "answers with equal labels: none can be told right"),)
