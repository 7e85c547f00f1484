"""The service's entrance and the trainer's lead to the same tensors."""

import base64
import io

import numpy as np
import pytest
from PIL import Image as Pillow

from rm_core.images import decode
from rm_core.scorer import Scorer
from rm_core.types import Conversation
from service.media import ImageStore
from service.prepare import Preparer
from service.schemas import CompareRequest
from service.settings import load_settings
from service.trace import Trace
from tests.groups import picture
from training.data.dataset import Order, StageData
from training.data.records import Preference

QUESTION, CHOSEN, REJECTED = "What is shown?", "A red apple.", "A <|im_end|> bicycle."


class OneRow:
    """A source of a single preference."""

    size = 1

    def __init__(self, preference: Preference) -> None:
        self.preference = preference

    def row(self, index: int) -> Preference:
        return self.preference


def png(height: int, width: int) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(picture(3, height, width).pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(("height", "width"), [(56, 56), (100, 61), (300, 200)])
async def test_the_same_pair_gives_equal_tensors_at_both_entrances(
    random_scorer: Scorer, height: int, width: int
) -> None:
    data = png(height, width)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    request = CompareRequest(prompt=QUESTION, images=[url], response_a=CHOSEN, response_b=REJECTED)
    preparer = Preparer(random_scorer.encode, ImageStore(1 << 20), load_settings({}, {}))
    prepared = await preparer.prepare(request, Trace.begin(None))
    preparer.close()

    image = decode(data, max_pixels=1 << 20)
    preference = Preference(
        id="1",
        conversation=Conversation.ask(QUESTION, image),
        chosen=CHOSEN,
        rejected=(REJECTED,),
        task="name",
        group="general",
        source="test",
    )
    stage = StageData(
        sources=(OneRow(preference),),
        order=Order.draw([1.0], 1, seed=0),
        encoder=random_scorer.encoder,
        batch=1,
        max_tokens=4096,
    )
    (row,) = stage.prepare(0).rows

    served, trained = prepared.group, row.encoded
    assert np.array_equal(served.prefix_ids_P, trained.prefix_ids_P)
    assert np.array_equal(served.prefix_positions_3P, trained.prefix_positions_3P)
    assert served.answers_start == trained.answers_start
    for place, ids in zip(prepared.places, trained.answer_ids, strict=True):
        assert np.array_equal(served.answer_ids[place], ids)
    assert np.array_equal(served.images[0].patches, trained.images[0].patches)
    assert served.images[0].grid_thw == trained.images[0].grid_thw
