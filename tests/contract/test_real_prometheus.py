"""A real Prometheus scrapes a real server under load; every panel's query has an answer."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.contract.test_watch_post import dashboard_queries
from tests.contract.tools import tool
from tests.e2e.server_process import ServerProcess
from tests.service.serving import data_url, png

# Events that a healthy server under valid load never has.
MAY_BE_EMPTY = ("vlrm_rejected",)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def server(random_checkpoint: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", str(random_checkpoint), "--threads", "1") as running:
        yield running


@pytest.fixture
def prometheus(server: ServerProcess, tmp_path: Path) -> Iterator[str]:
    target, port = server.url.removeprefix("http://"), free_port()
    config = tmp_path / "prometheus.yml"
    jobs = [{"job_name": "vlrm", "static_configs": [{"targets": [target]}]}]
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    command = [tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/db"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)


def use(server: ServerProcess, seconds: float) -> None:
    body = {"prompt": "What is it?", "images": [data_url(png())]}
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        both = {**body, "response_a": "a", "response_b": "b"}
        assert httpx.post(f"{server.url}/compare", json=both).status_code == 200
        time.sleep(0.1)


def test_every_panel_answers(server: ServerProcess, prometheus: str) -> None:
    use(server, 8)
    for query in dashboard_queries():
        asked = query.replace("$__rate_interval", "5s").replace("$instance", ".*")
        answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": asked}).json()
        assert answer["status"] == "success", answer
        rows = answer["data"]["result"]
        assert rows or any(name in query for name in MAY_BE_EMPTY), query
