"""A real server process under real connections: right answers, and a clean end."""

import asyncio
import random
import signal
import socket
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from bench.server_process import ServerProcess
from rm_core.scorer import Scorer
from tests.service.serving import TOLERANCE, asked, data_url, png

REQUESTS, DIFFERENT, CLIENTS = 1000, 160, 64
COLOURS = ("red", "green", "blue", "orange", "black", "white")
WORDS = ("apple", "house", "tree", "cat", "bicycle", "lamp", "river")


class Case(NamedTuple):
    """A request, and how to see that its answer is right."""

    path: str
    body: Any
    status: int
    expected: list[float]


def good_case(chance: random.Random, scorer: Scorer) -> Case:
    """Text only, one picture or two; one to four answers; any of the three routes."""
    pictures = [
        png(chance.randrange(30, 200), chance.randrange(30, 200), chance.choice(COLOURS))
        for _ in range(chance.choice((0, 1, 1, 2)))
    ]
    path = chance.choice(("/score", "/score", "/compare", "/rank"))
    number = {"/compare": 2, "/rank": chance.randrange(2, 5)}.get(path, chance.randrange(1, 5))
    question = f"Which {chance.choice(WORDS)} is shown?"
    answers = [f"{chance.choice(WORDS)} {i} " * chance.randrange(1, 4) for i in range(number)]
    body: dict[str, Any] = {"prompt": question, "images": [data_url(data) for data in pictures]}
    if path == "/compare":
        body |= {"response_a": answers[0], "response_b": answers[1]}
    else:
        body["responses"] = answers
    return Case(path, body, 200, scorer.score([asked(question, answers, *pictures)])[0])


def bad_case(chance: random.Random) -> Case:
    wrong = chance.choice(
        [
            ({"prompt": "x", "responses": []}, 422),
            ({"prompt": "x", "response": "y", "images": [data_url(png()[:-20])]}, 422),
            ({"prompt": "word " * 3000, "response": "y"}, 413),
            ({"prompt": "x", "response": "y", "temperature": 1}, 422),
        ]
    )
    return Case("/score", *wrong, [])


def scores_of(path: str, answer: Any) -> list[float]:
    if path == "/compare":
        return [answer["score_a"], answer["score_b"]]
    rows = answer["scores"] if path == "/score" else answer["ranking"]
    return [row["score"] for row in sorted(rows, key=lambda row: row["index"])]


@pytest.fixture(scope="module")
def cases(random_scorer: Scorer) -> list[Case]:
    """A thousand requests drawn from 160 different ones, each scored once beforehand."""
    chance = random.Random(7)
    good = [good_case(chance, random_scorer) for _ in range(DIFFERENT)]
    return [
        bad_case(chance) if number % 20 == 19 else chance.choice(good) for number in range(REQUESTS)
    ]


@pytest.fixture(scope="module")
def server(random_checkpoint: Path) -> Iterator[ServerProcess]:
    """Shared by the tests below; an idle server must then stop at once and exit 0."""
    with ServerProcess("--model", str(random_checkpoint), "--device", "cpu") as running:
        yield running
        started = time.monotonic()
        running.signal(signal.SIGINT)
        assert running.exit_code(10) == 0
        assert time.monotonic() - started < 2


async def test_64_clients_get_the_scorers_own_answers(
    server: ServerProcess, cases: list[Case]
) -> None:
    numbers = count()
    done: list[int] = []

    async def client_loop(client: httpx.AsyncClient) -> None:
        while (number := next(numbers)) < len(cases):
            case = cases[number]
            answer = await client.post(case.path, json=case.body)
            assert answer.status_code == case.status, answer.text
            if case.status == 200:
                scores = scores_of(case.path, answer.json())
                assert scores == pytest.approx(case.expected, abs=TOLERANCE)
            done.append(number)

    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
        await asyncio.gather(*(client_loop(client) for _ in range(CLIENTS)))
        text = (await client.get("/metrics")).text
    assert sorted(done) == list(range(REQUESTS))
    assert metric(text, "vlrm_batch_groups_sum") == sum(case.status == 200 for case in cases)
    # Proof that requests really shared forward passes.
    assert metric(text, "vlrm_batch_groups_count") < 0.7 * REQUESTS
    assert metric(text, "vlrm_in_flight") == 0


def metric(text: str, name: str) -> float:
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(name + " "))


async def until_in_flight(client: httpx.AsyncClient, number: int) -> None:
    while metric((await client.get("/metrics")).text, "vlrm_in_flight") < number:
        pass


def raw_answer(server: ServerProcess, request: bytes) -> bytes:
    host, port = httpx.URL(server.url).host, httpx.URL(server.url).port
    with socket.create_connection((host, port), timeout=20) as connection:
        connection.sendall(request)
        return connection.recv(65536)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(b"Content-Length: 100000000\r\n", b"413", id="declared_too_large"),
        pytest.param(b"Content-Length: -5\r\n", b"400", id="negative_length"),
        pytest.param(b"X-Large: " + b"x" * 200_000 + b"\r\n", b"400", id="huge_header"),
    ],
)
def test_what_only_a_socket_can_send(server: ServerProcess, head: bytes, status: bytes) -> None:
    request = (
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + head + b"\r\n"
    )
    assert raw_answer(server, request).split(b" ")[1] == status
    assert httpx.get(f"{server.url}/ready").status_code == 200


KEEPS_NOTHING = ("--device", "cpu", "--prefix-cache-bytes", "0")


def work(number: int, *, words: int, answers: int) -> dict[str, Any]:
    """A request with a prompt of its own, so that it is a forward pass of its own."""
    return {
        "prompt": f"{number} word" * words,
        "responses": [f"answer {i}" for i in range(answers)],
    }


async def test_sigterm_answers_everything_accepted_then_exits_0(random_checkpoint: Path) -> None:
    bodies = [work(number, words=200, answers=20) for number in range(30)]
    with ServerProcess("--model", str(random_checkpoint), *KEEPS_NOTHING) as server:
        limits = httpx.Limits(max_connections=40)
        async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
            calls = [asyncio.create_task(client.post("/score", json=body)) for body in bodies]
            await until_in_flight(client, 30)
            server.signal()
            refused = await client.post("/score", json=bodies[0])
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
            assert int(refused.headers["retry-after"]) >= 1
            answers = await asyncio.gather(*calls)
        assert [answer.status_code for answer in answers] == [200] * 30
        assert await asyncio.to_thread(server.exit_code, 30) == 0
    assert not any("Traceback" in line for line in server.log)


def test_work_that_outlasts_the_drain_time_is_answered_503(random_checkpoint: Path) -> None:
    bodies = [work(number, words=300, answers=60) for number in range(100)]
    flags = (*KEEPS_NOTHING, "--drain-s", "0.2")

    async def overstay(server: ServerProcess) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=110)
        async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
            calls = [asyncio.create_task(client.post("/score", json=body)) for body in bodies]
            await until_in_flight(client, 50)
            server.signal()
            return await asyncio.gather(*calls)

    with ServerProcess("--model", str(random_checkpoint), *flags) as server:
        answers = asyncio.run(overstay(server))
        assert server.exit_code(20) in (0, 1)  # 1: a forward pass was still running
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {200, 503}
    assert 503 in statuses
