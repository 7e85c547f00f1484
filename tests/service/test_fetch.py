"""Fetching from real servers: what arrives, what is refused, and what no server can make it do."""

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from rm_core.errors import RewardError
from service.dial import Internet
from service.errors import DeadlinePassed, FetchFailed, FetchTooLarge, FetchTooSlow, UrlNotAllowed
from service.fetch import Fetcher
from service.metrics import Metrics
from service.settings import Settings
from tests.service.serving import png, until
from tests.service.web import ADDRESS, NAME, Site, Web, certificate, redirect, reply, site

PICTURE = png()
PAGE = f"http://{NAME}/a.png"


@pytest_asyncio.fixture
async def host() -> AsyncIterator[Site]:
    async with site() as made:
        made.pages["/a.png"] = reply(PICTURE, content_type="text/html")
        yield made


@pytest.fixture
def web(host: Site) -> Web:
    made = Web()
    made.add(host)
    return made


def fetcher(web: Web, tls: ssl.SSLContext | None = None, **settings: Any) -> Fetcher:
    chosen = Settings.model_validate({"media_urls": "public", "media_timeout_s": 5.0} | settings)
    return Fetcher(chosen, Metrics(CollectorRegistry()), web.internet(tls))


async def fetched(web: Web, *urls: str, **settings: Any) -> list[bytes]:
    found = await fetcher(web, **settings).fetch(
        {url: f"images[{i}]" for i, url in enumerate(urls)}
    )
    return [found[url] for url in urls]


def count(of: Fetcher, result: str) -> float:
    value = of._metrics.registry.get_sample_value("vlrm_media_fetches_total", {"result": result})
    return value or 0.0


async def test_a_picture_arrives_whatever_its_type_is_called(web: Web, host: Site) -> None:
    assert await fetched(web, PAGE) == [PICTURE]
    assert web.asked == [NAME]
    assert web.dialled == [(ADDRESS, 80)]


async def test_the_host_is_told_nothing_about_us_and_no_proxy_is_asked(
    web: Web, host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        host.pages["/a.png"] = reply(PICTURE, set_cookie="a=b; Path=/")
        of = fetcher(web)
        for _ in range(2):
            await of.fetch({PAGE + "#part": "x"})
        assert proxy.connections == 0
    first, second = host.heads
    assert first == second
    assert first.split("\r\n") == [
        *("GET /a.png HTTP/1.1", f"Host: {NAME}", "User-Agent: vlrm"),
        *("Accept: image/png, image/jpeg, image/webp", "Accept-Encoding: identity"),
        *("Connection: close", "", ""),
    ]


async def test_a_name_that_moves_between_check_and_dial_is_dialled_where_it_was_checked(
    web: Web, host: Site
) -> None:
    """DNS rebinding: a public address for the check, loopback for whoever asks again."""
    web.names[NAME] = [[ADDRESS], ["127.0.0.1"]]
    web.routes["127.0.0.1", 80] = 1
    assert await fetched(web, PAGE) == [PICTURE]
    assert web.asked == [NAME]
    assert web.dialled == [(ADDRESS, 80)]


async def test_a_name_that_moves_before_the_next_hop_is_checked_again(web: Web, host: Site) -> None:
    web.names[NAME] = [[ADDRESS], ["127.0.0.1"]]
    web.routes["127.0.0.1", 80] = host.port
    host.pages["/hop"] = redirect("/a.png")
    with pytest.raises(UrlNotAllowed):
        await fetched(web, f"http://{NAME}/hop")
    assert web.asked == [NAME, NAME]
    assert web.dialled == [(ADDRESS, 80)]


@pytest.mark.parametrize(
    "answer",
    [
        *(["127.0.0.1"], ["10.0.0.7"], ["169.254.169.254"], ["::1"], ["fd00::1"]),
        *(["::ffff:127.0.0.1"], [ADDRESS, "10.0.0.7"], ["64:ff9b::a00:7", ADDRESS]),
    ],
)
async def test_a_name_that_leads_inside_is_refused_and_nothing_is_dialled(
    web: Web, host: Site, answer: list[str]
) -> None:
    web.names[NAME] = [answer]
    web.routes |= {(address, 80): host.port for address in answer}
    with pytest.raises(UrlNotAllowed) as refused:
        await fetched(web, PAGE)
    assert refused.value.field == "images[0]"
    assert not any(address in refused.value.message for address in answer)
    assert (web.dialled, host.connections) == ([], 0)


@pytest.mark.parametrize("address", ["127.0.0.1", "2130706433", "0x7f.1", "[::1]", "localhost"])
async def test_the_real_network_is_not_dialled_inside_even_for_a_listed_host(
    host: Site, address: str
) -> None:
    """Nothing is replaced here: the system's resolver and sockets, and a listener on loopback."""
    listed = f"localhost:{host.port},127.0.0.1:{host.port}"
    url = {f"http://{address}:{host.port}/a.png": "x"}
    closed = Settings.model_validate({"media_urls": "allowlist", "media_allowed_hosts": listed})
    with pytest.raises(UrlNotAllowed):
        await Fetcher(closed, Metrics(CollectorRegistry()), Internet()).fetch(url)
    assert host.connections == 0
    if address in listed:
        opened = closed.model_copy(update={"media_private_addresses": True})
        await Fetcher(opened, Metrics(CollectorRegistry()), Internet()).fetch(url)
        assert host.connections == 1


async def test_the_next_address_is_tried_when_one_does_not_answer(web: Web) -> None:
    web.names[NAME] = [["2606:4700::1111", ADDRESS]]
    assert await fetched(web, PAGE) == [PICTURE]
    assert web.dialled == [("2606:4700::1111", 80), (ADDRESS, 80)]


async def test_an_address_in_the_url_is_dialled_without_a_lookup(web: Web, host: Site) -> None:
    web.routes["2606:4700::1111", 80] = host.port
    assert await fetched(web, "http://[2606:4700:0::1111]/a.png") == [PICTURE]
    assert "\r\nHost: [2606:4700::1111]\r\n" in host.heads[0]
    assert web.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(web: Web, host: Site, status: int) -> None:
    host.pages["/hop"] = redirect("a.png", status)
    assert await fetched(web, f"http://{NAME}/hop") == [PICTURE]


async def test_three_redirects_are_followed_and_four_are_not(web: Web, host: Site) -> None:
    for i in range(4):
        host.pages[f"/{i}"] = redirect(f"/{i + 1}" if i < 3 else "/a.png")
    assert await fetched(web, f"http://{NAME}/1") == [PICTURE]
    with pytest.raises(FetchFailed):
        await fetched(web, f"http://{NAME}/0")
    host.pages["/loop"] = redirect("/loop")
    with pytest.raises(FetchFailed):
        await fetched(web, f"http://{NAME}/loop")


@pytest.mark.parametrize(
    "location",
    [
        *("http://127.0.0.1/a.png", "http://[::1]/a.png", "http://169.254.169.254/latest/"),
        *("http://inside.example/a.png", "http://localhost/a.png", "//2130706433/a.png"),
        *("http://0x7f000001/", "file:///etc/passwd", "http://user@pictures.example/a.png"),
        *("http://pictures.example:8080/a.png", "http://[64:ff9b::7f00:1]/", "gopher://x.example/"),
    ],
)
async def test_a_redirect_to_where_a_first_hop_may_not_go_is_refused(
    web: Web, host: Site, location: str
) -> None:
    web.names["inside.example"] = [["10.0.0.7"]]
    host.pages["/hop"] = redirect(location)
    with pytest.raises(UrlNotAllowed):
        await fetched(web, f"http://{NAME}/hop")
    assert web.dialled == [(ADDRESS, 80)]


async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


async def endless_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x: " + b"y" * 1000 + b"\r\n")
        await writer.drain()


async def endless_hints(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0)


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(PICTURE)[:-10])
    await writer.drain()
    writer.transport.abort()


@pytest.mark.parametrize(
    ("page", "error"),
    [
        pytest.param(trickle, FetchTooSlow, id="drip"),
        pytest.param(silence, FetchTooSlow, id="silence"),
        pytest.param(endless_hints, FetchTooSlow, id="endless_hints"),
        pytest.param(endless, FetchTooLarge, id="endless"),
        pytest.param(reply(b"x" * 10_001), FetchTooLarge, id="one_byte_over"),
        pytest.param(reply(b"x", content_length="10000000000"), FetchTooLarge, id="declares_10_gb"),
        pytest.param(reply(PICTURE, content_length="9" * 5000), FetchFailed, id="absurd_length"),
        pytest.param(reply(PICTURE, content_length="-1"), FetchFailed, id="negative_length"),
        pytest.param(reply(PICTURE, content_length="9999"), FetchFailed, id="shorter_than_said"),
        pytest.param(reset, FetchFailed, id="reset_in_the_body"),
        pytest.param(endless_head, FetchFailed, id="endless_head"),
        pytest.param(reply(PICTURE, x="y" * 200_000), FetchFailed, id="huge_header"),
        pytest.param(b"", FetchFailed, id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", FetchFailed, id="another_protocol"),
        pytest.param(
            reply(gzip.compress(b"\0" * 5_000_000), content_encoding="gzip"),
            FetchFailed,
            id="gzip_bomb",
        ),
        pytest.param(reply(PICTURE, content_encoding="identity, br"), FetchFailed, id="brotli"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\ncontent-encoding: gzip\r\n\r\nx",
            FetchFailed,
            id="two_encodings",
        ),
        pytest.param(reply(PICTURE, 302), FetchFailed, id="redirect_nowhere"),
        pytest.param(reply(PICTURE, 304), FetchFailed, id="not_modified"),
        *(
            pytest.param(reply(b"secret", status), FetchFailed, id=str(status))
            for status in (201, 204, 206, 300, 400, 401, 403, 404, 429, 500, 503)
        ),
    ],
)
async def test_a_host_that_misbehaves_is_one_clear_error_in_time(
    web: Web, host: Site, page: Any, error: type[RewardError]
) -> None:
    host.pages["/bad"] = page
    of = fetcher(web, media_timeout_s=0.4, media_max_bytes=10_000)
    started = time.monotonic()
    with pytest.raises(error) as refused:
        await of.fetch({f"http://{NAME}/bad": "images[0]"})
    assert time.monotonic() - started < 3
    assert refused.value.field == "images[0]"
    for secret in (ADDRESS, NAME, "secret", "503", "404", "127.0.0.1"):
        assert secret not in refused.value.message
    assert count(of, refused.value.code) == 1
    assert await of.fetch({PAGE: "x"}) == {PAGE: PICTURE}
    await until(lambda: host.open == 0)


async def test_an_unknown_name_and_a_dead_address_are_told_without_details(web: Web) -> None:
    web.names["dead.example"] = [["93.184.216.35"]]
    for name in ("nowhere.example", "dead.example"):
        with pytest.raises(FetchFailed) as refused:
            await fetched(web, f"http://{name}/")
        assert "93.184" not in refused.value.message
        assert "10.0.0.53" not in refused.value.message


async def test_exactly_the_limit_is_taken_and_all_pictures_share_it(web: Web, host: Site) -> None:
    host.pages |= {f"/{size}": reply(b"x" * size) for size in (500, 524, 525, 1024)}
    for fitting in ([1024], [500, 524]):
        await fetched(web, *(f"http://{NAME}/{n}" for n in fitting), media_max_bytes=1024)
    with pytest.raises(FetchTooLarge):
        await fetched(web, f"http://{NAME}/500", f"http://{NAME}/525", media_max_bytes=1024)


class Gate:
    """A page that answers once everybody has come."""

    def __init__(self, body: bytes, expected: int) -> None:
        self.body, self.expected, self.here, self.most = body, expected, 0, 0
        self.full = asyncio.Event()

    async def __call__(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.here += 1
        self.most = max(self.most, self.here)
        if self.here >= self.expected:
            self.full.set()
        await self.full.wait()
        self.here -= 1
        writer.write(reply(self.body))


async def test_pictures_of_a_request_are_fetched_at_the_same_time(web: Web, host: Site) -> None:
    gate = Gate(PICTURE, expected=8)
    urls = [f"http://{NAME}/{i}" for i in range(8)]
    host.pages |= {f"/{i}": gate for i in range(8)}
    assert await fetched(web, *urls) == [PICTURE] * 8


async def test_no_more_than_the_limit_are_fetched_at_once(web: Web, host: Site) -> None:
    gate = Gate(PICTURE, expected=3)
    host.pages |= {f"/{i}": gate for i in range(9)}
    of = fetcher(web, media_max_fetches=3)
    requests = [{f"http://{NAME}/{i}": "x" for i in range(n, n + 3)} for n in (0, 3, 6)]
    await asyncio.gather(*map(of.fetch, requests))
    assert gate.most == 3
    assert count(of, "ok") == 9


async def test_the_first_failure_ends_the_other_fetches(web: Web, host: Site) -> None:
    host.pages["/slow"] = silence
    of = fetcher(web, media_timeout_s=60.0)
    with pytest.raises(FetchFailed) as refused:
        await of.fetch({f"http://{NAME}/slow": "images[0]", f"http://{NAME}/404": "images[1]"})
    assert refused.value.field == "images[1]"
    assert (count(of, "cancelled"), count(of, "fetch_failed")) == (1, 1)
    await until(lambda: host.open == 0)


async def test_a_callers_deadline_ends_a_fetch_as_its_own_error(web: Web, host: Site) -> None:
    host.pages["/slow"] = silence
    deadline = asyncio.get_running_loop().time() + 0.2
    with pytest.raises(DeadlinePassed):
        await fetcher(web, media_timeout_s=60.0).fetch({f"http://{NAME}/slow": "x"}, deadline)
    await until(lambda: host.open == 0)


@pytest.fixture(scope="module")
def cert_and_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest_asyncio.fixture
async def secure(web: Web, cert_and_key: tuple[Path, Path]) -> AsyncIterator[Site]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*cert_and_key)
    async with site(context) as made:
        made.pages["/a.png"] = reply(PICTURE)
        web.routes[ADDRESS, 443] = made.port
        yield made


@pytest.fixture
def trusting(cert_and_key: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cert_and_key[0])


async def test_tls_and_host_speak_of_the_name_while_the_address_is_dialled(
    web: Web, secure: Site, trusting: ssl.SSLContext
) -> None:
    url = f"https://{NAME}/a.png"
    assert await fetcher(web, trusting).fetch({url: "x"}) == {url: PICTURE}
    assert secure.names == [NAME]
    assert f"\r\nHost: {NAME}\r\n" in secure.heads[0]
    assert web.dialled == [(ADDRESS, 443)]


async def test_a_certificate_of_another_name_or_of_nobody_is_not_accepted(
    web: Web, secure: Site, trusting: ssl.SSLContext
) -> None:
    web.names["other.example"] = [[ADDRESS]]
    for url, tls in (
        ("https://other.example/a.png", trusting),
        (f"https://{ADDRESS}/a.png", trusting),
        (f"https://{NAME}/a.png", None),
    ):
        with pytest.raises(FetchFailed):
            await fetcher(web, tls).fetch({url: "x"})
    assert secure.heads == []


async def test_a_secure_page_does_not_lead_to_an_open_one(
    web: Web, host: Site, secure: Site, trusting: ssl.SSLContext
) -> None:
    secure.pages["/hop"] = redirect(PAGE)
    with pytest.raises(UrlNotAllowed):
        await fetcher(web, trusting).fetch({f"https://{NAME}/hop": "x"})
    assert host.connections == 0
    host.pages["/up"] = redirect(f"https://{NAME}/a.png")
    assert await fetcher(web, trusting).fetch({f"http://{NAME}/up": "x"})


async def test_a_host_that_never_shakes_hands_is_too_slow(web: Web, host: Site) -> None:
    web.routes[ADDRESS, 443] = host.port
    with pytest.raises(FetchTooSlow):
        await fetched(web, f"https://{NAME}/a.png", media_timeout_s=0.3)
    await until(lambda: host.open == 0)
