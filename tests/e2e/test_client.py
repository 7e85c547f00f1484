"""The client against a real server: the scorer's own scores, each picture sent once."""

import asyncio
import contextlib
import io
import json
import re
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image as Pillow

from bench.server_process import ROOT, ServerProcess
from rm_core.scorer import Scorer
from rm_core.types import Pixels
from service.client import AsyncRewardClient, Picture, RewardClient, RewardServerError
from tests.e2e.test_server import metric
from tests.groups import picture
from tests.service.serving import ANSWERS, QUESTION, asked, data_url, opened

APPLE = ROOT / "examples" / "apple.png"
CLOSE = 1e-4
PUTS = 'vlrm_requests_total{route="/images/{sha256}",status="201"}'
PUTS_KNOWN = 'vlrm_requests_total{route="/images/{sha256}",status="200"}'
SCORES = 'vlrm_requests_total{route="/score",status="200"}'


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--threads", "1") as running:
        yield running


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer.load(device="cpu")


@pytest.fixture
def client(server: ServerProcess) -> Iterator[RewardClient]:
    with RewardClient(server.url) as made:
        yield made


def counted(server: ServerProcess, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    return metric(text, name) if f"\n{name} " in text else 0.0


def noise(seed: int, side: int = 16) -> bytes:
    """A picture that does not compress: about `3 * side * side` bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return png_of(pixels)


def png_of(pixels: Pixels) -> bytes:
    data = io.BytesIO()
    Pillow.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


FORMS: dict[str, Picture] = {
    "path": APPLE,
    "bytes": APPLE.read_bytes(),
    "pillow": Pillow.open(APPLE),
    "array": opened(APPLE.read_bytes()).pixels,
    "data_url": data_url(APPLE.read_bytes()),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_picture_gets_the_scorers_scores(
    form: str, client: RewardClient, scorer: Scorer
) -> None:
    answer = client.score(QUESTION, ANSWERS, images=[FORMS[form]])
    expected = scorer.score([asked(QUESTION, ANSWERS, APPLE.read_bytes())])[0]
    assert [row.score for row in answer.scores] == pytest.approx(expected, abs=CLOSE)
    assert answer.model.revision == scorer.info.revision


def test_the_pages_own_example_runs(
    server: ServerProcess, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.S)
    assert found is not None
    monkeypatch.chdir(APPLE.parent)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(found[1].replace("http://localhost:8000", server.url), {})
    asking = asked("What is shown?", ["An apple.", "A dog."], APPLE.read_bytes())
    scores, revision = printed.getvalue().strip().rsplit(" ", 1)
    assert json.loads(scores) == pytest.approx(scorer.score([asking])[0], abs=CLOSE)
    assert revision == scorer.info.revision


def test_messages_compare_rank_model_ready(client: RewardClient, scorer: Scorer) -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": APPLE}},
        {"type": "text", "text": QUESTION},
    ]
    messages = [{"role": "user", "content": parts}]
    first, second, third = scorer.score([asked(QUESTION, ANSWERS, APPLE.read_bytes())])[0]
    compared = client.compare(messages, ANSWERS[0], ANSWERS[1])
    assert compared.margin == pytest.approx(first - second, abs=2 * CLOSE)
    ranked = client.rank(messages, ANSWERS)
    by_index = [row.score for row in sorted(ranked.ranking, key=lambda row: row.index)]
    assert by_index == pytest.approx([first, second, third], abs=CLOSE)
    assert client.model().revision == scorer.info.revision
    assert client.ready()


def test_a_picture_is_uploaded_once(client: RewardClient, server: ServerProcess) -> None:
    data, before = noise(1), counted(server, PUTS)
    for number in range(4):
        client.score(QUESTION, [f"It is {number}."], images=[data, data])
    assert counted(server, PUTS) == before + 1


async def test_calls_at_the_same_time_upload_once_too(server: ServerProcess) -> None:
    data, before, known = noise(2), counted(server, PUTS), counted(server, PUTS_KNOWN)
    async with AsyncRewardClient(server.url) as client:
        calls = (client.score(QUESTION, [f"It is {n}."], images=[data]) for n in range(20))
        await asyncio.gather(*calls)
    assert counted(server, PUTS) == before + 1
    assert counted(server, PUTS_KNOWN) == known


async def test_fifty_single_calls_are_a_few_requests_with_the_same_scores(
    server: ServerProcess,
) -> None:
    pictures: list[Picture] = [noise(3), picture(4, 60, 60).pixels]
    texts = [f"There are {n} of them." for n in range(25)]
    before = counted(server, SCORES)
    async with AsyncRewardClient(server.url) as client:
        merged = await asyncio.gather(
            *(client.score_one(QUESTION, t, images=[p]) for t in texts for p in pictures)
        )
        assert counted(server, SCORES) == before + 2
        alone = await asyncio.gather(
            *(client.score(QUESTION, [t], images=[p]) for t in texts for p in pictures)
        )
    assert counted(server, SCORES) == before + 52
    expected = [answer.scores[0].score for answer in alone]
    assert [score.score for score in merged] == pytest.approx(expected, abs=CLOSE)
    assert len(set(expected)) > 40


async def test_too_long_a_response_is_refused_alone(server: ServerProcess) -> None:
    async with AsyncRewardClient(server.url) as client:
        calls = (client.score_one(QUESTION, text) for text in ("A.", "word " * 50_000, "B."))
        first, long, last = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(long, RewardServerError)
    assert (long.status, long.code) == (413, "too_many_tokens")
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)


def test_a_refusal_has_the_servers_words(client: RewardClient) -> None:
    with pytest.raises(RewardServerError, match="not a complete") as raised:
        client.score(QUESTION, ANSWERS, images=[b"not a picture"])
    assert (raised.value.status, raised.value.code) == (422, "invalid_image")
    with pytest.raises(RewardServerError) as raised:
        client.score(QUESTION, ["", "x"])
    assert raised.value.field == "responses[0]"


@pytest.fixture(scope="module")
def narrow() -> Iterator[ServerProcess]:
    """One request at a time, and a store that holds one of our pictures."""
    flags = ("--threads", "1", "--max-in-flight", "1", "--image-store-bytes", "1024")
    with ServerProcess(*flags) as running:
        yield running


def test_a_forgotten_picture_is_sent_again(narrow: ServerProcess) -> None:
    first, second = noise(5), noise(6)
    with RewardClient(narrow.url) as client:
        before = client.score(QUESTION, ANSWERS, images=[first])
        client.score(QUESTION, ANSWERS, images=[second])  # pushes the first one out
        again = client.score(QUESTION, ANSWERS, images=[first])
    assert counted(narrow, PUTS) == 3
    assert [r.score for r in again.scores] == pytest.approx([r.score for r in before.scores])


def test_a_store_too_small_for_the_request_is_an_error_not_a_loop(narrow: ServerProcess) -> None:
    with RewardClient(narrow.url) as client:
        with pytest.raises(RewardServerError) as raised:
            client.score(QUESTION, ANSWERS, images=[noise(7), noise(8)])
        assert raised.value.code == "image_not_found"
    with RewardClient(narrow.url, upload=False) as client:
        assert len(client.score(QUESTION, ANSWERS, images=[noise(7), noise(8)]).scores) == 3


async def test_an_overloaded_server_answers_everybody_in_the_end(narrow: ServerProcess) -> None:
    texts = ["word " * 300 + f"{n}" for n in range(4)]
    async with AsyncRewardClient(narrow.url, timeout_s=120, retries=50) as client:
        answers = await asyncio.gather(*(client.score(QUESTION, [text]) for text in texts))
    assert len(answers) == 4
    assert counted(narrow, 'vlrm_rejected_total{reason="overloaded"}') > 0


def test_a_draining_server_says_so() -> None:
    with ServerProcess("--threads", "1") as server, RewardClient(server.url, retries=0) as client:
        httpx.post(f"{server.url}/admin/drain").raise_for_status()
        with pytest.raises(RewardServerError, match="shutting down") as raised:
            client.score("x", ["y"])
        assert (raised.value.status, raised.value.code) == (503, "draining")
        assert client.ready() is False
