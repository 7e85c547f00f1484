"""A real server process that fetches from a real host; nothing is replaced."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from bench.server_process import ServerProcess
from tests.service.serving import TOLERANCE, data_url, png

PICTURE = png()


class Pictures(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        moved = self.path.startswith("/moved")
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("Location", self.path.replace("/moved", "/a.png"))
        self.send_header("Content-Length", str(len(PICTURE)))
        self.end_headers()
        self.wfile.write(PICTURE)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def listening() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening() as number:
        yield number


@pytest.fixture(scope="module")
def server(port: int) -> Iterator[ServerProcess]:
    """With proxies configured that lead nowhere, and everything logged."""
    nowhere = {
        "HTTP_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "",
    }
    flags = ["--media-urls", "allowlist", "--media-allowed-hosts", f"localhost:{port}"]
    flags += ["--media-private-addresses", "--log-level", "debug"]
    with ServerProcess(*flags, environ=nowhere) as running:
        yield running


def score(server: ServerProcess, picture: str) -> httpx.Response:
    body = {"prompt": "What is shown?", "images": [picture], "response": "A red square."}
    return httpx.post(f"{server.url}/score", json=body, timeout=60, trust_env=False)


def test_a_url_scores_as_its_picture_does_and_no_log_line_has_it(
    server: ServerProcess, port: int
) -> None:
    by_url = score(server, f"http://localhost:{port}/moved?token=hush")
    by_data = score(server, data_url(PICTURE))
    assert by_url.status_code == 200, by_url.text
    scores = [answer.json()["scores"][0]["score"] for answer in (by_url, by_data)]
    assert scores[0] == pytest.approx(scores[1], abs=TOLERANCE)
    assert "POST /score 200" in "".join(server.log)
    assert not any("hush" in line or "a.png" in line for line in server.log)


def test_the_server_cannot_be_sent_to_itself_or_to_its_neighbours(
    server: ServerProcess, port: int
) -> None:
    for url in (
        f"{server.url}/metrics",
        f"http://127.0.0.1:{port}/",
        f"http://localhost:{port + 1}/",
    ):
        answer = score(server, url)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "url_not_allowed")
