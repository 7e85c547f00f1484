"""Pictures named by URL in a request, through the whole app and a small internet."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from rm_core.scorer import Scorer
from tests.service.foreign import templated
from tests.service.serving import (
    ANSWERS,
    QUESTION,
    TOLERANCE,
    Caller,
    Running,
    data_url,
    png,
    serving,
    until,
)
from tests.service.web import NAME, Site, Web, redirect, reply, site

RED, BLUE = png(colour="red"), png(90, 60, colour="blue")


@pytest_asyncio.fixture
async def host() -> AsyncIterator[Site]:
    async with site() as made:
        made.pages = {
            "/red.png": reply(RED),
            "/blue.png": reply(BLUE),
            "/moved.png": redirect("/red.png"),
            "/page.html": reply(b"<html>"),
            "/inside.png": redirect("http://169.254.169.254/latest/meta-data/"),
        }
        yield made


@pytest_asyncio.fixture
async def server(random_scorer: Scorer, host: Site) -> AsyncIterator[Running]:
    web = Web()
    web.add(host)
    async with serving(random_scorer, web.internet(), media_urls="public") as running:
        yield running


def at(path: str) -> str:
    return f"http://{NAME}{path}"


def short(*urls: str) -> dict[str, Any]:
    return {"prompt": QUESTION, "images": list(urls), "responses": list(ANSWERS)}


def messages(*urls: str) -> dict[str, Any]:
    parts: list[Any] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content = [*parts, {"type": "text", "text": QUESTION}]
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
    return {"messages": turns, "responses": list(ANSWERS)}


def scores(answer: Any) -> list[float]:
    return [row["score"] for row in answer["scores"]]


@pytest.mark.parametrize("form", [short, messages])
async def test_a_url_scores_as_its_picture_does(server: Running, form: Any) -> None:
    by_url = await server.post("/score", form(at("/moved.png"), at("/blue.png")))
    by_data = await server.post("/score", form(data_url(RED), data_url(BLUE)))
    other = await server.post("/score", form(data_url(BLUE), data_url(RED)))
    assert by_url.status_code == 200, by_url.text
    assert by_url.json()["usage"] == by_data.json()["usage"]
    assert scores(by_url.json()) == pytest.approx(scores(by_data.json()), abs=TOLERANCE)
    assert scores(by_url.json()) != pytest.approx(scores(other.json()), abs=TOLERANCE)


async def test_other_projects_routes_fetch_too(server: Running) -> None:
    def body(picture: str) -> dict[str, Any]:
        query = templated(QUESTION, ANSWERS[0], RED)
        return {"query": [query], "labels": [{"images": [picture]}]}

    by_url = await server.post("/get_reward", body(at("/red.png")))
    by_data = await server.post("/get_reward", body(data_url(RED)))
    assert by_url.json()["rewards"] == pytest.approx(by_data.json()["rewards"], abs=TOLERANCE)
    inside = await server.post("/get_reward", body(at("/inside.png")))
    assert inside.json()["error"]["code"] == "url_not_allowed"
    assert inside.json()["error"]["field"] == "labels[0].images[0]"


async def test_the_other_routes_and_mixed_forms_take_urls_too(server: Running) -> None:
    mixed = {"prompt": QUESTION, "images": [data_url(RED), at("/blue.png")]}
    for path, answers in (
        ("/compare", {"response_a": "a", "response_b": "b"}),
        ("/rank", {"responses": ["a", "b"]}),
    ):
        assert (await server.post(path, mixed | answers)).status_code == 200


async def test_a_url_named_twice_is_fetched_once(server: Running, host: Site) -> None:
    assert (await server.post("/score", short(*[at("/red.png")] * 5))).status_code == 200
    assert host.connections == 1


async def test_the_time_of_fetching_is_told_and_counted(server: Running, host: Site) -> None:
    async def late(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(reply(RED))

    host.pages["/late.png"] = late
    answer = await server.post("/score", short(at("/late.png")))
    stages = dict(stage.split(";dur=") for stage in answer.headers["server-timing"].split(", "))
    assert float(stages["fetch"]) >= 200
    assert all(float(spent) >= 0 for spent in stages.values())
    text = (await server.client.get("/metrics")).text
    assert 'vlrm_media_fetches_total{result="ok"} 1.0' in text
    assert f"vlrm_media_fetch_bytes_total {float(len(RED))}" in text


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        pytest.param(at("/inside.png"), 422, "url_not_allowed", id="redirect_inside"),
        pytest.param("http://127.0.0.1/x", 422, "url_not_allowed", id="inside"),
        pytest.param("https://u:p@a.example/", 422, "url_not_allowed", id="with_a_user"),
        pytest.param("http:", 422, "url_not_allowed", id="scheme_only"),
        pytest.param(at("/none.png"), 422, "fetch_failed", id="not_there"),
        pytest.param(at("/page.html"), 422, "invalid_image", id="not_a_picture"),
        pytest.param("ftp://a.example/", 422, "invalid_image", id="ftp"),
    ],
)
@pytest.mark.parametrize(
    ("form", "field"),
    [(short, "images[1]"), (messages, "messages[1].content[1].image_url.url")],
)
async def test_a_refusal_names_the_field_and_nothing_else(
    server: Running, url: str, status: int, code: str, form: Any, field: str
) -> None:
    answer = await server.post("/score", form(data_url(RED), url))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["field"]) == (status, code, field), error
    assert not any(word in error["message"] for word in ("169.254", "127.0.0.1", NAME, "404"))
    assert server.parts.admission.in_flight == 0


async def test_too_slow_and_too_large_are_told_apart(random_scorer: Scorer, host: Site) -> None:
    async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    host.pages |= {"/slow.png": silence, "/large.png": reply(b"x" * 2000)}
    web = Web()
    web.add(host)
    limits = {"media_timeout_s": 0.2, "media_max_bytes": 1024}
    async with serving(random_scorer, web.internet(), media_urls="public", **limits) as server:
        slow = await server.post("/score", short(at("/slow.png")))
        large = await server.post("/score", short(at("/large.png")))
        late = await server.post("/score", short(at("/slow.png")), x_deadline_ms="100")
    found = [(a.status_code, a.json()["error"]["code"]) for a in (slow, large, late)]
    assert found == [(422, "fetch_too_slow"), (413, "fetch_too_large"), (504, "deadline_passed")]


async def test_a_caller_who_hangs_up_ends_the_fetch(server: Running, host: Site) -> None:
    async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    host.pages["/slow.png"] = silence
    caller = Caller(short(at("/slow.png"), at("/slow.png?2")))
    host.pages["/slow.png?2"] = silence
    call = asyncio.create_task(caller.call(server))
    await until(lambda: host.open == 2)
    caller.gone.set()
    await call
    await until(lambda: host.open == 0)
    assert server.parts.admission.in_flight == 0
    text = (await server.client.get("/metrics")).text
    assert 'vlrm_media_fetches_total{result="cancelled"} 2.0' in text
    assert "vlrm_callers_left_total 1.0" in text


async def test_others_are_served_while_hosts_are_slow(server: Running, host: Site) -> None:
    async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    host.pages |= {f"/{i}.png": silence for i in range(20)}
    callers = [Caller(short(at(f"/{i}.png"))) for i in range(20)]
    calls = [asyncio.create_task(caller.call(server)) for caller in callers]
    await until(lambda: host.open == 20)
    async with asyncio.timeout(5):
        assert (await server.post("/score", short(data_url(RED)))).status_code == 200
        assert (await server.post("/score", short(at("/red.png")))).status_code == 200
    for caller in callers:
        caller.gone.set()
    await asyncio.gather(*calls)


async def test_off_is_the_default_and_says_which_setting(random_scorer: Scorer, host: Site) -> None:
    web = Web()
    web.add(host)
    async with serving(random_scorer, web.internet()) as server:
        answer = await server.post("/score", short(at("/red.png")))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "not_supported")
    assert error["field"] == "images[0]"
    assert "VLRM_MEDIA_URLS" in error["message"]
    assert (web.asked, host.connections) == ([], 0)


async def test_no_url_reaches_the_log(
    server: Running, host: Site, caplog: pytest.LogCaptureFixture
) -> None:
    host.pages["/hop?token=hush"] = redirect("/none?token=hush")
    with caplog.at_level(logging.DEBUG, "vlrm"):
        await server.post("/score", short(at("/red.png?token=hush")))
        await server.post("/score", short(at("/hop?token=hush")))
        await server.post("/score", short("http://127.0.0.1/?token=hush"))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("vlrm")]
    assert sum("error=fetch_failed" in line for line in ours) == 2
    assert not any("hush" in line or NAME in line for line in ours)
