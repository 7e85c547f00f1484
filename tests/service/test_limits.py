"""Bodies and permits are bounded, and the refusal comes as early as it can."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from rm_core.scorer import Scorer
from service.errors import Draining, NotReady, Overloaded, Unavailable
from service.limits import Admission
from tests.service.serving import Running, serving

JSON = {"content-type": "application/json"}


def open_admission(limit: int) -> Admission:
    admission = Admission(limit, lambda: 0.0)
    admission.not_ready = None
    return admission


def test_a_permit_is_held_until_the_end_and_given_back_on_errors() -> None:
    admission = open_admission(1)
    with suppress(ZeroDivisionError), admission.permit():
        assert isinstance(admission.refusal(), Overloaded)
        raise ZeroDivisionError
    assert admission.refusal() is None


def test_bulk_work_is_shed_before_interactive_work() -> None:
    admission = open_admission(4)
    with admission.permit(), admission.permit():
        with pytest.raises(Overloaded):
            admission.check("bulk")
        admission.check("interactive")


def test_a_single_permit_is_not_closed_to_bulk_work() -> None:
    open_admission(1).check("bulk")


@pytest.mark.parametrize("error", [NotReady, Draining])
def test_closed_admission_says_why(error: type[Unavailable]) -> None:
    admission = Admission(4, lambda: 0.0)
    if error is Draining:
        admission.drain()
    assert not admission.ready
    with pytest.raises(error):
        admission.check()


def test_a_full_server_stays_ready() -> None:
    admission = open_admission(1)
    with admission.permit():
        assert admission.ready


def test_a_full_server_says_when_to_come_back() -> None:
    admission = Admission(1, lambda: 6.2)
    admission.not_ready = None
    with admission.permit():
        refusal = admission.refusal()
    assert isinstance(refusal, Overloaded)
    assert refusal.retry_after_s in (8, 9, 10)


def test_callers_are_not_all_sent_back_at_the_same_second() -> None:
    assert {Overloaded("full").retry_after_s for _ in range(9)} == {1, 2, 3}


async def chunks(size: int, read: list[int]) -> AsyncIterator[bytes]:
    for _ in range(size):
        read.append(1)
        yield b" " * 1024


@pytest.mark.parametrize("path", ["/score", "/images/" + "a" * 64])
async def test_a_body_without_a_length_is_cut_off_at_the_limit(
    random_scorer: Scorer, path: str
) -> None:
    read: list[int] = []
    kind = "image/png" if path.startswith("/images") else "application/json"
    async with serving(random_scorer, max_body_bytes=2048) as server:
        method = "PUT" if path.startswith("/images") else "POST"
        answer = await server.client.request(
            method, path, content=chunks(50, read), headers={"content-type": kind}
        )
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"
    assert len(read) == 3


async def test_a_declared_length_over_the_limit_is_refused_unread(server: Running) -> None:
    read: list[int] = []
    headers = JSON | {"content-length": "100000000"}
    answer = await server.client.post("/score", content=chunks(50, read), headers=headers)
    assert (answer.status_code, read) == (413, [])


async def test_a_full_server_refuses_before_reading_with_retry_after(random_scorer: Scorer) -> None:
    read: list[int] = []
    async with serving(random_scorer, max_in_flight=1) as server:
        with server.parts.admission.permit():
            answer = await server.client.post("/score", content=chunks(9, read), headers=JSON)
    assert (answer.status_code, read) == (503, [])
    assert answer.json()["error"]["code"] == "overloaded"
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_caller_who_stops_sending_is_cut_off(random_scorer: Scorer) -> None:
    async def never_ends() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(20)

    async with serving(random_scorer, body_timeout_s=0.05) as server:
        answer = await server.client.post("/score", content=never_ends(), headers=JSON)
    assert answer.status_code == 408
    assert answer.json()["error"]["code"] == "body_timeout"
