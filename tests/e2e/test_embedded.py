"""The embedded model behind a real server says what it says offline."""

import asyncio
import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image as Pillow

from bench.server_process import ServerProcess
from rm_core.checkpoints.source import DEFAULT
from rm_core.golden import Golden
from rm_core.scorer import Scorer
from rm_core.types import ScoreGroup, TextPart
from training.data.heldout import examination
from training.data.records import Preference
from training.evaluate import judge

ROWS_PER_TASK, AT_ONCE = 6, 16


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--threads", "1") as running:
        yield running


def picture_urls(group: ScoreGroup) -> list[str]:
    urls = []
    for image in group.conversation.images:
        buffer = io.BytesIO()
        Pillow.fromarray(image.pixels).save(buffer, "PNG")
        urls.append(png_url(buffer.getvalue()))
    return urls


def png_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def question(row: Preference) -> str:
    (text,) = [p.text for p in row.conversation.turns[-1].parts if isinstance(p, TextPart)]
    return text


def test_golden_scores_over_http(server: ServerProcess) -> None:
    golden = Golden.read(DEFAULT)
    assert golden is not None
    for row in golden.rows:
        body = {
            "prompt": row.question,
            "images": [png_url(data) for data in row.pictures],
            "responses": list(row.responses),
        }
        answer = httpx.post(f"{server.url}/score", json=body).json()
        scores = [score["score"] for score in answer["scores"]]
        assert scores == pytest.approx(row.scores, abs=golden.tolerance["float32"])


async def compared(server: ServerProcess, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    limit = asyncio.Semaphore(AT_ONCE)

    async def ask(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
        async with limit:
            answer = await client.post("/compare", json=body)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        return await asyncio.gather(*(ask(client, body) for body in bodies))


@pytest.mark.parametrize("held_out", ["known vendors", "unseen vendor"])
async def test_compare_reaches_the_offline_accuracy_row_by_row(
    server: ServerProcess, held_out: str
) -> None:
    rows = examination(ROWS_PER_TASK, seed=0)[held_out]
    offline = judge(Scorer.load(device="cpu"), rows).judged
    bodies, expected = [], []
    for row, judged in zip(rows, offline, strict=True):
        shared = {"prompt": question(row), "images": picture_urls(row.as_group())}
        chosen, *others = judged.scores
        for rejected, score in zip(row.rejected, others, strict=True):
            bodies.append({**shared, "response_a": row.chosen, "response_b": rejected})
            expected.append(chosen - score)
    for answer, margin in zip(await compared(server, bodies), expected, strict=True):
        assert answer["margin"] == pytest.approx(margin, abs=1e-4)
        assert (answer["margin"] > 0) == (margin > 0)


def test_the_embedded_model_is_calibrated_and_named(server: ServerProcess) -> None:
    model = httpx.get(f"{server.url}/model").json()
    assert model["calibration"]["std"] > 0
    body = {"prompt": "What is 2 + 3?", "response_a": "5.", "response_b": "9."}
    assert httpx.post(f"{server.url}/compare", json=body).json()["calibrated"] is True
