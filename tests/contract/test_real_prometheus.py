"""A real Prometheus scrapes a real server under load; every panel has data and no alert fires."""

import json
import math
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.server_process import ServerProcess
from tests.contract.test_watch_post import PROMETHEUS, alerts, dashboard_queries
from tests.contract.tools import tool
from tests.service.serving import data_url, png


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
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(PROMETHEUS / "alerts.yml")],
        "scrape_configs": [{"job_name": "vlrm", "static_configs": [{"targets": [target]}]}],
    }
    config.write_text(json.dumps(settings))
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


def asked(prometheus: str, path: str, **params: str) -> Any:
    answer = httpx.get(f"{prometheus}/api/v1/{path}", params=params).json()
    assert answer["status"] == "success", answer
    return answer["data"]


def has_data(prometheus: str, query: str) -> bool:
    """A quantile of nothing is a row too, with NaN: Grafana would draw an empty panel."""
    bare = query.replace("$__rate_interval", "5s").replace("$instance", ".*")
    rows = asked(prometheus, "query", query=bare)["result"]
    return any(math.isfinite(float(row["value"][1])) for row in rows)


def test_every_panel_has_data_and_no_alert_fires(server: ServerProcess, prometheus: str) -> None:
    use(server, 8)
    empty = [query for query in dashboard_queries() if not has_data(prometheus, query)]
    assert not empty
    groups = asked(prometheus, "rules")["groups"]
    health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert health == {rule["alert"]: "ok" for rule in alerts()}
    # Pending ones are listed too, so no rule's patience hides a wrong condition.
    assert asked(prometheus, "alerts")["alerts"] == []
