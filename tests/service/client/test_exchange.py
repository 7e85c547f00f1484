"""Retries, deadlines and sentences, against a server that is told how to behave."""

import asyncio
import json
import threading
import time
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from rm_core.errors import InvalidInput
from service.client import AsyncRewardClient, RewardClient, RewardServerError
from service.client.retries import Budget, Retries
from tests.contract.test_real_prometheus import free_port
from tests.service.client.stub import Reply, StubServer, good, refusal

OVERLOADED = refusal(503, "overloaded", Retry_After="1")


async def ask(kind: str, url: str, **setup: Any) -> list[float]:
    """The same call on either client; the blocking one in this thread, as scripts use it."""
    if kind == "blocking":
        with RewardClient(url, **setup) as client:
            return [row.score for row in client.score("x", ["y"]).scores]
    async with AsyncRewardClient(url, **setup) as client:
        return [row.score for row in (await client.score("x", ["y"])).scores]


def refused(words: str) -> pytest.RaisesExc[RewardServerError]:
    return pytest.raises(RewardServerError, match=words)


both = pytest.mark.parametrize("kind", ["blocking", "asynchronous"])


@both
async def test_an_overloaded_server_is_asked_again_after_the_time_it_names(kind: str) -> None:
    with StubServer(OVERLOADED, good(1.5)) as server:
        assert await ask(kind, server.url, timeout_s=20) == [1.5]
    first, second = server.asked
    assert 1.0 <= second.at - first.at < 5
    left_ms = [int(asked.headers["x-deadline-ms"]) for asked in server.asked]
    assert 15_000 < left_ms[0] <= 20_000
    assert left_ms[1] <= left_ms[0] - 1000  # the pause is the caller's time too
    assert first.body == second.body
    assert first.headers["x-request-id"] == second.headers["x-request-id"]


@both
async def test_no_wait_that_would_outlast_the_deadline(kind: str) -> None:
    started = time.monotonic()
    with (
        StubServer(refusal(503, "draining", Retry_After="30")) as server,
        refused("it is draining") as raised,
    ):
        await ask(kind, server.url, timeout_s=5)
    assert time.monotonic() - started < 3
    assert (raised.value.status, raised.value.code) == (503, "draining")
    assert raised.value.request_id == "from-server"
    assert len(server.asked) == 1


@both
@pytest.mark.parametrize("status", [429, 503])
async def test_the_number_of_tries_is_bounded_and_told(kind: str, status: int) -> None:
    with (
        StubServer(refusal(status, "full")) as server,
        refused(r"it is full \(3 tries in") as raised,
    ):
        await ask(kind, server.url, retries=2)
    assert len(server.asked) == 3
    assert server.url in raised.value.message


@both
@pytest.mark.parametrize("status", [400, 413, 422, 500, 504])
async def test_other_refusals_are_not_tried_again(kind: str, status: int) -> None:
    with StubServer(refusal(status, "no")) as server, refused("it is no") as raised:
        await ask(kind, server.url)
    assert raised.value.status == status
    assert len(server.asked) == 1


@both
async def test_a_slow_server_costs_no_more_than_the_deadline(kind: str) -> None:
    with StubServer(Reply(after_s=20)) as server:
        started = time.monotonic()
        with pytest.raises(RewardServerError, match=r"no answer within 0\.3 s; raise") as raised:
            await ask(kind, server.url, timeout_s=0.3)
        assert time.monotonic() - started < 2
    assert (raised.value.status, raised.value.code) == (None, "deadline_passed")
    assert raised.value.request_id == server.asked[0].headers["x-request-id"]


@both
async def test_a_server_that_is_down(kind: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RewardServerError, match=r"no server answers at .* start it") as raised:
        await ask(kind, url, retries=1)
    assert (raised.value.status, raised.value.code) == (None, "unreachable")


@both
async def test_a_server_that_comes_back_is_found(kind: str) -> None:
    server = StubServer(good(2.0))  # bound, but nobody listens: connections are refused
    begin = threading.Timer(0.5, server.__enter__)
    begin.start()
    try:
        assert await ask(kind, server.url) == [2.0]
    finally:
        begin.join()
        server.__exit__(None, None, None)


@both
@pytest.mark.parametrize(
    ("reply", "code", "words"),
    [
        pytest.param(Reply(502, b"<html>bad gateway"), "http_502", "a proxy", id="proxy"),
        pytest.param(Reply(200, b"<html>hello"), "bad_answer", "something else", id="html"),
        pytest.param(Reply(200, {"scores": []}), "bad_answer", "id: Field required", id="json"),
        pytest.param(good(1.0, 2.0), "bad_answer", "2 scores for 1", id="count"),
        pytest.param(good(float("nan")), "bad_answer", "NaN is not a score", id="nan"),
    ],
)
async def test_what_is_no_answer_of_ours_is_said(
    kind: str, reply: Reply, code: str, words: str
) -> None:
    with StubServer(reply) as server, refused(words) as raised:
        await ask(kind, server.url)
    assert raised.value.code == code


@both
async def test_another_revision_than_expected_raises(kind: str) -> None:
    with StubServer(good(1.0, revision="r2")) as server:
        assert await ask(kind, server.url, expected_revision="r2") == [1.0]
        with pytest.raises(RewardServerError, match=r"serves revision r2; .* is r1") as raised:
            await ask(kind, server.url, expected_revision="r1")
    assert raised.value.code == "wrong_revision"


@both
async def test_what_is_sent(kind: str) -> None:
    with StubServer(good(1.0)) as server:
        await ask(kind, server.url + "/behind/", api_key="secret", priority="bulk")
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/behind/score")
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["x-priority"] == "bulk"
    assert json.loads(asked.body) == {"prompt": "x", "images": [], "responses": ["y"]}


@both
@pytest.mark.parametrize(
    ("url", "setup", "words"),
    [
        ("localhost:8000", {}, "must begin with http"),
        ("http://x", {"timeout_s": 0}, "timeout_s"),
        ("http://x", {"timeout_s": 3601}, "timeout_s"),
    ],
)
async def test_a_wrong_setup_is_refused_before_anything_is_sent(
    kind: str, url: str, setup: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        await ask(kind, url, **setup)


async def test_thousands_of_waiting_calls_do_not_run_out_of_time_in_our_own_queue() -> None:
    with StubServer(Reply(200, good(1.0).body, after_s=0.1)) as server:
        async with AsyncRewardClient(server.url, timeout_s=1, concurrency=1) as client:
            answers = await asyncio.gather(*(client.score("x", [f"{n}"]) for n in range(15)))
    assert len(answers) == len(server.asked) == 15  # 1.5 s in all, 0.1 s each


class Clock:
    """Time that passes only when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def answered(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_pauses_grow_and_spread() -> None:
    budget = Budget(1000, Clock())
    calm, hurried = Retries(most=9, chance=lambda: 0.0), Retries(most=9, chance=lambda: 1.0)
    broken = httpx.ReadError("gone")
    pauses = [calm.wait_s(broken, tries, budget) for tries in range(1, 10)]
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 8.0, 8.0, 8.0]
    assert hurried.wait_s(broken, 1, budget) == pytest.approx(0.3)
    assert calm.wait_s(broken, 10, budget) is None


def asked_to_wait(value: str) -> float | None:
    calm = Retries(chance=lambda: 0.0)
    return calm.wait_s(answered(503, Retry_After=value), 1, Budget(60))


@pytest.mark.parametrize(("value", "wait_s"), [("7", 7), ("soon", 0.2), ("-3", 0.2)])
def test_retry_after_in_seconds_or_as_nonsense(value: str, wait_s: float) -> None:
    assert asked_to_wait(value) == wait_s


def test_retry_after_as_a_date() -> None:
    assert asked_to_wait(formatdate(time.time() - 500, usegmt=True)) == 0.2
    wait_s = asked_to_wait(formatdate(time.time() + 5, usegmt=True))
    assert wait_s is not None
    assert 3 <= wait_s <= 5


def test_a_budget_counts_down_to_a_last_thousandth() -> None:
    clock = Clock()
    budget = Budget(2.0, clock)
    clock.now += 1.5
    assert (budget.left_s, budget.deadline_ms) == (0.5, "500")
    clock.now += 1.5
    assert (budget.left_s, budget.deadline_ms) == (0.001, "1")
