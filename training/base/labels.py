"""What is true of each quarter of a picture, as class numbers for the tower's warm-up."""

from random import Random
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from training.base.words import COUNTS, FAMILIES
from training.data.colours import BACKGROUNDS
from training.data.objects import OBJECTS
from training.data.scenes import Bars, Things, render_bars, render_things
from training.data.tasks import TRAIN, charts, shapes, signs
from training.data.tasks.things import lay_out, pick_kinds

Pixels: TypeAlias = NDArray[np.uint8]
UNKNOWN = -100  # what cross_entropy skips
FAMILY = {family: index for index, family in enumerate(FAMILIES)}
MIX = (("things", 0.64), ("chart", 0.12), ("shape", 0.11), ("sign", 0.13))
LARGE_SHARE = 0.25


def draw_labelled(rng: Random) -> tuple[Pixels, NDArray[np.int64]]:
    """One picture and its labels, (4 quarters, families)."""
    kind = rng.choices([name for name, _ in MIX], [share for _, share in MIX])[0]
    if kind == "things":
        scene = draw_things(rng)
        return render_things(scene), label_things(scene)
    if kind == "chart":
        chart = charts.draw_chart(rng)
        return render_bars(chart), label_chart(chart)
    if kind == "sign":
        sign = signs.draw_sign(rng, TRAIN)
        return signs.render_sign(sign), label_sign(sign)
    shape = rng.choice(shapes.published("train"))
    return shapes.render_shape(shape, rng), label_shape(shape)


def draw_things(rng: Random) -> Things:
    """Any number of things, from the same side of the held-out line as all training pictures."""
    if rng.random() < LARGE_SHARE:
        word, background = rng.choice(OBJECTS), rng.choice(BACKGROUNDS)
        return Things((word,) * 4, background, rng.getrandbits(31), large=True)
    count = rng.choice((1, 2, 2, 3, 3, 4, 4))
    kinds = pick_kinds(rng, min(count, rng.choice((1, 2, 2, 3, 4))), TRAIN)
    return lay_out(rng, kinds + rng.choices(kinds, k=count - len(kinds)), TRAIN)


def label_things(scene: Things) -> NDArray[np.int64]:
    labels = _blank()
    labels[:, FAMILY["colour"]] = _class("colour", scene.background)
    for quarter, word in enumerate(scene.quarters):
        labels[quarter, FAMILY["thing"]] = _class("thing", word or FAMILIES["thing"][0])
        if word:
            labels[quarter, FAMILY["count"]] = scene.words.count(word) - 1
    return labels


def label_chart(chart: Bars) -> NDArray[np.int64]:
    labels = _blank()
    labels[:, FAMILY["colour"]] = _class("colour", chart.tallest)
    labels[:, FAMILY["shortest"]] = _class("shortest", chart.shortest)
    labels[:, FAMILY["count"]] = COUNTS.index(COUNTS[len(chart.colours) - 1])
    return labels


def label_shape(shape: shapes.Shape) -> NDArray[np.int64]:
    labels = _blank()
    labels[:, FAMILY["colour"]] = _class("colour", shape.colour)
    labels[:, FAMILY["shape"]] = _class("shape", shape.shape)
    return labels


def label_sign(sign: signs.Sign) -> NDArray[np.int64]:
    labels = _blank()
    labels[:, FAMILY["colour"]] = _class("colour", sign.paper)
    labels[:, FAMILY["written"]] = _class("written", sign.word)
    return labels


def _blank() -> NDArray[np.int64]:
    labels = np.full((4, len(FAMILIES)), UNKNOWN, np.int64)
    labels[:, FAMILY["row"]] = (0, 0, 1, 1)
    labels[:, FAMILY["column"]] = (0, 1, 0, 1)
    return labels


def _class(family: str, word: str) -> int:
    return FAMILIES[family].index(word)
