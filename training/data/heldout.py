"""The built-in examination: drawings of known vendors, of an unseen one, and a grey picture."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np

from rm_core.types import Conversation, Image, ImagePart, Part, Turn
from training.data.records import Preference
from training.data.tasks import KNOWN, TASKS, UNSEEN, Split, draw

SPLITS = {"known vendors": KNOWN, "unseen vendor": UNSEEN}
GREY = "grey picture"


def examination(
    rows_per_task: int, seed: int, tasks: Sequence[str] = tuple(TASKS)
) -> dict[str, list[Preference]]:
    """Set name -> rows; the same questions in each, and the grey set leaves out text tasks."""
    sets = {n: held_out_rows(rows_per_task, seed, split, tasks) for n, split in SPLITS.items()}
    return {**sets, **grey_control(sets["unseen vendor"])}


def grey_control(rows: Sequence[Preference]) -> dict[str, list[Preference]]:
    """The rows that have pictures with grey ones instead; no set where there are none."""
    pictured = [greyed(row) for row in rows if row.conversation.images]
    return {GREY: pictured} if pictured else {}


def held_out_rows(
    rows_per_task: int, seed: int, split: Split, tasks: Sequence[str]
) -> list[Preference]:
    # One stream for each task and row: another task or more rows leave the others as they are.
    return [
        draw(Random(f"examination/{seed}/{task}/{number}"), task, split)
        for task in tasks
        for number in range(rows_per_task)
    ]


def greyed(row: Preference) -> Preference:
    """The same question over grey pictures of the same size: what a blind model can get."""
    turns = tuple(
        Turn(turn.role, tuple(_greyed_part(part) for part in turn.parts))
        for turn in row.conversation.turns
    )
    return replace(row, id=f"{row.id}-grey", conversation=Conversation(turns))


def _greyed_part(part: Part) -> Part:
    if not isinstance(part, ImagePart):
        return part
    return ImagePart(Image.from_pixels(np.full_like(part.image.pixels, 128)))
