"""The rows are what they claim: licensed pictures, clean splits, answers not told by words."""

import hashlib
import json
import math
from collections import Counter
from dataclasses import replace
from itertools import combinations
from random import Random

import numpy as np
import pytest

from rm_core.types import TextPart
from training.base.labels import draw_things
from training.data import tasks
from training.data.atlas import PICTURES, TRAIN_VENDORS, UNSEEN_VENDOR, sprites
from training.data.heldout import GREY, examination
from training.data.objects import OBJECTS, held_out
from training.data.records import Preference
from training.data.scenes import Things
from training.data.tasks import KNOWN, TASKS, TRAIN, UNSEEN, draw, shapes, signs, things
from training.data.tasks.text import ask_add, held_out_operands

ABOUT_THINGS = [
    things.ask_name,
    things.ask_describe,
    things.ask_where,
    things.ask_side,
    things.ask_background,
    things.ask_list,
    things.ask_exists,
    things.ask_count,
    things.ask_total,
    things.ask_sum,
    things.ask_more,
]
IMAGE_TASKS = [name for name, task in TASKS.items() if task.group != "text"]


def test_every_sheet_is_the_one_its_licence_note_speaks_of() -> None:
    manifest = json.loads((PICTURES / "manifest.json").read_text())
    assert manifest.keys() == {*TRAIN_VENDORS, UNSEEN_VENDOR}
    for vendor, about in manifest.items():
        sheet = (PICTURES / f"{vendor}.png").read_bytes()
        assert hashlib.sha256(sheet).hexdigest() == about["sheet_sha256"], vendor
        assert about["licence"] in ("Apache-2.0", "CC-BY-4.0", "MIT"), vendor
        assert about["package"] in (PICTURES / "NOTICE.md").read_text(), vendor


def test_every_thing_has_drawings_and_the_unseen_vendor_draws_them_all() -> None:
    for word in OBJECTS:
        assert sum(word in sprites(vendor) for vendor in TRAIN_VENDORS) >= 3, word
        assert word in sprites(UNSEEN_VENDOR), word


def apart(scene: Things) -> bool:
    return not any(held_out(a, b) for a, b in combinations(scene.kinds, 2))


def test_held_out_pairs_never_meet_in_training_the_warm_up_included() -> None:
    rng = Random(1)
    scenes = [ask(rng, TRAIN)[0] for ask in ABOUT_THINGS for _ in range(200)]
    scenes += [draw_things(rng) for _ in range(1000)]
    assert all(apart(scene) and not scene.unseen for scene in scenes)


def test_evaluation_shows_held_out_pairs_and_the_unseen_vendor() -> None:
    rng = Random(2)
    scenes = [things.ask_list(rng, UNSEEN)[0] for _ in range(200)]
    assert all(not apart(scene) and scene.unseen for scene in scenes)
    assert not things.ask_list(rng, KNOWN)[0].unseen


def test_no_answer_is_right_more_often_than_the_others_where_it_is_measured() -> None:
    shown = Counter(shapes.draw_shape(Random(seed), UNSEEN).shape for seed in range(3000))
    assert set(shown) == set(shapes.SHAPES)
    assert all(900 < number < 1100 for number in shown.values())


def test_signs_keep_one_font_from_training() -> None:
    rng = Random(4)
    seen, unseen = ([signs.draw_sign(rng, split) for _ in range(200)] for split in (KNOWN, UNSEEN))
    assert not any(sign.unseen for sign in seen)
    assert all(sign.unseen for sign in unseen)
    drawn = {signs.render_sign(replace(sign, unseen=True)).tobytes() for sign in seen}
    assert len(drawn) == len(seen)
    assert drawn.isdisjoint(signs.render_sign(sign).tobytes() for sign in seen)


def test_a_sign_can_be_read_ink_and_paper_differ_and_the_word_is_inside() -> None:
    rng = Random(6)
    for split in (TRAIN, UNSEEN):
        for _ in range(200):
            pixels = signs.render_sign(signs.draw_sign(rng, split)).astype(float).mean(axis=2)
            rim = np.concatenate([pixels[0], pixels[-1]])
            assert np.ptp(pixels) > 40 + np.ptp(rim) / 4


def test_held_out_sums_are_new_and_their_right_answers_are_not_always_wrong_before() -> None:
    rng = Random(3)
    rows = {split: [ask_add(rng, split) for _ in range(2000)] for split in (TRAIN, KNOWN)}

    def operands(text: str) -> tuple[int, ...]:
        found = "".join(c if c.isdigit() else " " for c in text).split()
        return tuple(map(int, found[:2]))

    assert not any(held_out_operands(*operands(q.text)) for q in rows[TRAIN])
    assert all(held_out_operands(*operands(q.text)) for q in rows[KNOWN])
    right_in_training = {sum(operands(q.text)) for q in rows[TRAIN]}
    assert {sum(operands(q.text)) for q in rows[KNOWN]} <= right_in_training


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_draws_the_same_row_again(name: str) -> None:
    first, again = draw(Random(5), name), draw(Random(5), name)
    assert (first.id, first.chosen, first.rejected) == (again.id, again.chosen, again.rejected)
    digests = [[image.digest for image in row.conversation.images] for row in (first, again)]
    assert digests[0] == digests[1]


def blank(*_: object) -> np.ndarray:
    return np.full((56, 56, 3), 128, np.uint8)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions without their pictures: quick to draw by the thousand."""
    monkeypatch.setattr(tasks, "render_things", blank)
    monkeypatch.setattr(tasks, "render_bars", blank)
    monkeypatch.setattr(tasks.shapes, "render_shape", blank)
    monkeypatch.setattr(tasks.signs, "render_sign", blank)


def words(text: str) -> list[str]:
    return text.lower().replace(".", " ").replace(",", " ").split()


def clues(row: Preference, answer: str) -> set[str]:
    """Words of the answer, its length, and each word beside the question's wording."""
    (text,) = [p.text for p in row.conversation.turns[0].parts if isinstance(p, TextPart)]
    opening = " ".join(words(text)[:3])
    said = set(words(answer))
    asked = {f"{opening}/{word}" for word in said}
    return said | asked | {f"{len(words(answer))} words"}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", IMAGE_TASKS)
def test_a_blind_reader_of_answers_stays_at_chance(name: str) -> None:
    rng = Random(7)
    rows = [draw(rng, name) for _ in range(4000)]
    learnt, asked = rows[:2500], rows[2500:]
    right, wrong = Counter[str](), Counter[str]()
    for row in learnt:
        right.update(clues(row, row.chosen))
        for answer in row.rejected:
            wrong.update(dict.fromkeys(clues(row, answer), 1))
    share = sum(right.values()) / sum(wrong.values())

    def evidence(row: Preference, answer: str) -> float:
        return sum(
            math.log((right[clue] + 5 * share) / (wrong[clue] + 5)) for clue in clues(row, answer)
        )

    won = [
        (mine > theirs) + (mine == theirs) / 2
        for row in asked
        for mine in [evidence(row, row.chosen)]
        for theirs in [evidence(row, answer) for answer in row.rejected]
    ]
    assert sum(won) / len(won) == pytest.approx(0.5, abs=0.05)


def test_the_grey_control_asks_the_same_questions() -> None:
    sets = examination(2, seed=0)
    pictured = [row for row in sets["unseen vendor"] if row.conversation.images]
    for row, grey in zip(pictured, sets[GREY], strict=True):
        assert (row.chosen, row.rejected, row.task) == (grey.chosen, grey.rejected, grey.task)
        assert {p for image in grey.conversation.images for p in np.unique(image.pixels)} == {128}
