"""Requests whose caller, deadline, model or server gives up on the way."""

import asyncio
import threading

import pytest

from rm_core.packing import PackedBatch
from rm_core.scorer import Scorer
from tests.service.serving import Caller, Interrupted, serving, until

BODY = {"prompt": "What is 2 + 2?", "responses": ["4", "five"]}


class Device:
    """Holds every forward pass until it is released; raises what it is told to."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.error: Exception | None = None

    def __call__(self, _batch: PackedBatch) -> None:
        assert self.release.wait(20)
        if self.error:
            raise self.error


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def scorer(random_scorer: Scorer, device: Device) -> Interrupted:
    return Interrupted(random_scorer, device)


async def test_a_raising_model_is_one_clear_500_each_and_the_next_request_works(
    scorer: Interrupted, device: Device
) -> None:
    device.error = RuntimeError("CUDA error at 0x7f00deadbeef")
    async with serving(scorer) as server:
        first = asyncio.create_task(server.post("/score", BODY))
        await until(lambda: len(scorer.batches) == 1)
        others = [asyncio.create_task(server.post("/score", BODY)) for _ in range(3)]
        await until(lambda: len(server.parts.scheduler) == 3)
        device.release.set()
        answers = await asyncio.gather(first, *others)
        assert [answer.status_code for answer in answers] == [500] * 4
        assert {answer.json()["error"]["code"] for answer in answers} == {"forward_failed"}
        assert all("0x7f" not in answer.text for answer in answers)
        device.error = None
        assert (await server.post("/score", BODY)).status_code == 200
    assert scorer.batches == [1, 3, 1, 2, 1, 1, 1]  # halves, to find whose fault it is


async def test_a_caller_who_hangs_up_frees_its_permit_and_is_never_computed(
    scorer: Interrupted, device: Device
) -> None:
    async with serving(scorer) as server:
        first = asyncio.create_task(server.post("/score", BODY))
        await until(lambda: len(scorer.batches) == 1)
        caller = Caller(BODY)
        call = asyncio.create_task(caller.call(server))
        await until(lambda: len(server.parts.scheduler) == 1)
        caller.gone.set()
        await call
        assert caller.sent == []
        assert server.parts.admission.in_flight == 1
        device.release.set()
        assert (await first).status_code == 200
        assert (await server.post("/score", BODY)).status_code == 200
        text = (await server.client.get("/metrics")).text
    assert scorer.batches == [1, 1]
    assert "vlrm_callers_left_total 1.0" in text
    assert 'vlrm_requests_total{route="/score",status="499"} 1.0' in text


async def test_a_deadline_that_passes_while_waiting_is_504_and_spares_the_device(
    scorer: Interrupted, device: Device
) -> None:
    async with serving(scorer) as server:
        first = asyncio.create_task(server.post("/score", BODY))
        await until(lambda: len(scorer.batches) == 1)
        answer = await server.post("/score", BODY, x_deadline_ms="60")
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_passed"
        device.release.set()
        assert (await first).status_code == 200
        in_time = await server.post("/score", BODY, x_deadline_ms="20000")
        assert in_time.status_code == 200
    assert scorer.batches == [1, 1]


async def test_draining_answers_what_was_accepted(scorer: Interrupted, device: Device) -> None:
    async with serving(scorer) as server:
        accepted = [asyncio.create_task(server.post("/score", BODY)) for _ in range(5)]
        await until(lambda: server.parts.admission.in_flight == 5)
        drained = await server.client.post("/admin/drain")
        assert drained.json() == {"draining": True, "in_flight": 5}
        assert (await server.post("/score", BODY)).status_code == 503
        device.release.set()
        answers = await asyncio.gather(*accepted)
    assert [answer.status_code for answer in answers] == [200] * 5


async def test_if_the_batch_loop_ever_ends_nobody_is_left_waiting(
    random_scorer: Scorer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    async with serving(random_scorer) as server:
        monkeypatch.setattr("service.scheduler.take_batch", broken)
        async with asyncio.timeout(10):
            assert (await server.post("/score", BODY)).status_code == 503
        assert (await server.client.get("/ready")).status_code == 503
    assert "the batch loop ended" in caplog.text


async def test_no_more_than_the_permits_are_ever_in_the_house(
    scorer: Interrupted, device: Device
) -> None:
    async with serving(scorer, max_in_flight=4) as server:
        calls = [asyncio.create_task(server.post("/score", BODY)) for _ in range(20)]
        await until(lambda: sum(call.done() for call in calls) == 16)
        assert server.parts.admission.in_flight == 4
        device.release.set()
        answers = await asyncio.gather(*calls)
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * 4 + [503] * 16
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)


async def test_bulk_leaves_room_for_interactive_callers(
    scorer: Interrupted, device: Device
) -> None:
    async with serving(scorer, max_in_flight=4) as server:
        bulk = [
            asyncio.create_task(server.post("/score", BODY, x_priority="bulk")) for _ in range(4)
        ]
        await until(lambda: sum(call.done() for call in bulk) == 2)
        interactive = asyncio.create_task(server.post("/score", BODY))
        await until(lambda: server.parts.admission.in_flight == 3)
        device.release.set()
        assert (await interactive).status_code == 200
        assert sorted([(await call).status_code for call in bulk]) == [200, 200, 503, 503]
