"""Questions about bar charts; the wrong answers name other bars of the same chart."""

from itertools import pairwise
from random import Random

from training.data.colours import BARS
from training.data.scenes import Bars
from training.data.tasks.question import NUMBERS, Question, pose

LEAST_STEP = 0.1  # of the picture's height, between any two bars


def draw_chart(rng: Random) -> Bars:
    count = rng.randint(2, 4)
    while True:
        heights = tuple(rng.uniform(0.12, 0.95) for _ in range(count))
        ranked = sorted(heights)
        if min(b - a for a, b in pairwise(ranked)) > LEAST_STEP:
            return Bars(tuple(rng.sample(BARS, count)), heights, rng.getrandbits(31))


def ask_tallest(rng: Random) -> tuple[Bars, Question]:
    chart = draw_chart(rng)
    return chart, _ask_colour(rng, chart, "tallest", "highest", chart.tallest)


def ask_shortest(rng: Random) -> tuple[Bars, Question]:
    chart = draw_chart(rng)
    return chart, _ask_colour(rng, chart, "shortest", "lowest", chart.shortest)


def _ask_colour(rng: Random, chart: Bars, word: str, synonym: str, right: str) -> Question:
    return pose(
        rng,
        (f"What color is the {word} bar?", f"Which bar is the {word}?",
         f"What is the color of the {synonym} bar?"),
        (f"The {word} bar is {{}}.", "It is {}.", "The {} bar.", f"The {{}} bar is the {synonym}."),
        right, [colour for colour in chart.colours if colour != right],
    )  # fmt: skip


def ask_bar_count(rng: Random) -> tuple[Bars, Question]:
    chart = draw_chart(rng)
    wrong = [count for count in (2, 3, 4) if count != len(chart.colours)]
    return chart, pose(
        rng,
        ("How many bars does the chart have?", "How many bars are there?", "Count the bars."),
        ("There are {} bars.", "The chart has {} bars.", "{}."),
        NUMBERS[len(chart.colours)], [NUMBERS[count] for count in wrong],
    )  # fmt: skip
