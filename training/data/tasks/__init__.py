"""The table of tasks, and endless preference records drawn from it by seed."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rm_core.types import Conversation, Image
from training.data.records import Group, Preference
from training.data.scenes import Bars, Things, render_bars, render_things
from training.data.tasks import charts, shapes, signs, text, things
from training.data.tasks.question import KNOWN, TRAIN, UNSEEN, Question, Split

__all__ = ["KNOWN", "TASKS", "TRAIN", "UNSEEN", "Split", "Task", "draw", "preferences"]

Pixels: TypeAlias = NDArray[np.uint8]
Asked: TypeAlias = tuple[Pixels | None, Question]
Ask: TypeAlias = Callable[[Random, Split], Asked]
AskThings: TypeAlias = Callable[[Random, Split], tuple[Things, Question]]


@dataclass(frozen=True)
class Task:
    group: Group
    ask: Ask
    source: str
    by_vendor: bool = False  # whether an unseen vendor changes anything


def _on_things(ask: AskThings) -> Ask:
    def asked(rng: Random, split: Split) -> Asked:
        scene, question = ask(rng, split)
        return render_things(scene), question

    return asked


def _on_chart(ask: Callable[[Random], tuple[Bars, Question]]) -> Ask:
    def asked(rng: Random, split: Split) -> Asked:  # noqa: ARG001  charts hold nothing out
        chart, question = ask(rng)
        return render_bars(chart), question

    return asked


def _on_shape(ask: Callable[[Random, shapes.Shape], Question]) -> Ask:
    def asked(rng: Random, split: Split) -> Asked:
        shape = shapes.draw_shape(rng, split)
        return shapes.render_shape(shape, rng), ask(rng, shape)

    return asked


def _read_sign(rng: Random, split: Split) -> Asked:
    sign = signs.draw_sign(rng, split)
    return signs.render_sign(sign), signs.ask_read(rng, sign)


def _on_nothing(ask: Callable[[Random, Split], Question]) -> Ask:
    return lambda rng, split: (None, ask(rng, split))


def _things(group: Group, ask: AskThings) -> Task:
    return Task(group, _on_things(ask), "drawings", by_vendor=True)


TASKS: Mapping[str, Task] = {
    "name": _things("general", things.ask_name),
    "describe": _things("general", things.ask_describe),
    "where": _things("general", things.ask_where),
    "side": _things("general", things.ask_side),
    "background": _things("general", things.ask_background),
    "shape_name": Task("general", _on_shape(shapes.ask_shape_name), "easy-vqa"),
    "shape_color": Task("general", _on_shape(shapes.ask_shape_colour), "easy-vqa"),
    "read": Task("general", _read_sign, "signs", by_vendor=True),
    "list": _things("hallucination", things.ask_list),
    "exists": _things("hallucination", things.ask_exists),
    "shape_exists": Task("hallucination", _on_shape(shapes.ask_shape_exists), "easy-vqa"),
    "count": _things("reasoning", things.ask_count),
    "total": _things("reasoning", things.ask_total),
    "sum": _things("reasoning", things.ask_sum),
    "more": _things("reasoning", things.ask_more),
    "tallest": Task("reasoning", _on_chart(charts.ask_tallest), "charts"),
    "shortest": Task("reasoning", _on_chart(charts.ask_shortest), "charts"),
    "bar_count": Task("reasoning", _on_chart(charts.ask_bar_count), "charts"),
    "add": Task("text", _on_nothing(text.ask_add), "made text"),
    "category": Task("text", _on_nothing(text.ask_category), "made text"),
    "repeat": Task("text", _on_nothing(text.ask_repeat), "made text"),
    "follow": Task("text", _on_nothing(text.ask_follow), "made text"),
    "larger": Task("text", _on_nothing(text.ask_larger), "made text"),
}


def draw(rng: Random, name: str, split: Split = TRAIN) -> Preference:
    """One record of one task. A rejected wording that equals another one is kept only once."""
    pixels, question = TASKS[name].ask(rng, split)
    images = () if pixels is None else (Image.from_pixels(pixels),)
    task = TASKS[name]
    return Preference(
        id=f"{name}-{rng.getrandbits(64):016x}",
        conversation=Conversation.ask(question.text, *images),
        chosen=question.chosen,
        rejected=tuple(dict.fromkeys(question.rejected)),
        task=name,
        group=task.group,
        source=task.source,
    )


def preferences(
    seed: int, weights: Mapping[str, float], split: Split = TRAIN
) -> Iterator[Preference]:
    """Records for ever, tasks mixed by weight; the same seed gives the same records."""
    rng = Random(seed)
    names = list(weights)
    while True:
        yield draw(rng, rng.choices(names, [weights[name] for name in names])[0], split)
