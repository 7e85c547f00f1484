"""The straight line through recent forward passes."""

import pytest

from service.timing import TimeModel


def taught(*passes: tuple[float, float]) -> TimeModel:
    model = TimeModel()
    for work, seconds in passes:
        model.observe(work, seconds)
    return model


def test_it_finds_the_line() -> None:
    model = taught(*((work, 0.05 + 0.001 * work) for work in (10, 500, 90, 1000, 20)))
    assert model.predict(700) == pytest.approx(0.75)
    assert model.predict(700, passes=3) == pytest.approx(0.85)


@pytest.mark.parametrize(
    ("passes", "work", "seconds"),
    [
        pytest.param([], 100, 0.0, id="nothing_seen"),
        pytest.param([(100, 0.2)] * 3, 50, 0.1, id="one_size_only"),
        pytest.param([(100, 0.3), (200, 0.1)], 500, 0.2, id="no_negative_slope"),
        pytest.param([(100, 0.01), (200, 0.4)], 100, 0.162, id="no_negative_start"),
    ],
)
def test_it_stays_sensible(passes: list[tuple[float, float]], work: float, seconds: float) -> None:
    assert taught(*passes).predict(work) == pytest.approx(seconds, rel=0.03)


def test_it_follows_a_device_that_became_slower() -> None:
    model = taught(*((100, 0.1), (200, 0.2)) * 50, *((100, 0.3), (200, 0.6)) * 60)
    assert model.predict(150) == pytest.approx(0.45, rel=0.1)
