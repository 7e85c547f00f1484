"""The same questions twice: as bodies for the server, and as groups for the scorer alone."""

import base64
import io
from random import Random
from typing import Any

from PIL import Image as Pillow

from rm_core.types import ScoreGroup, TextPart
from training.data.records import Preference
from training.data.tasks import KNOWN, TASKS, draw


def questions(count: int, seed: int = 0) -> list[Preference]:
    """One 56-pixel picture, a question and its answers, over all picture tasks."""
    rng = Random(seed)
    names = [name for name, task in TASKS.items() if task.group != "text"]
    return [draw(rng, rng.choice(names), KNOWN) for _ in range(count)]


def as_body(row: Preference) -> dict[str, Any]:
    """A /compare body."""
    (text,) = [p.text for p in row.conversation.turns[-1].parts if isinstance(p, TextPart)]
    return {
        "prompt": text,
        "images": [_data_url(image.pixels) for image in row.conversation.images],
        "response_a": row.chosen,
        "response_b": row.rejected[0],
    }


def as_group(row: Preference) -> ScoreGroup:
    """What the server makes of that body; answers in its order, so that rounding agrees too."""
    return ScoreGroup(row.conversation, tuple(sorted((row.chosen, row.rejected[0]))))


def _data_url(pixels: Any) -> str:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
