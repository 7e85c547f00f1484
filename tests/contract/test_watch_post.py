"""Dashboards and alerts speak of numbers the server really exports, and each alert can fire."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rm_core.scorer import Scorer
from tests.contract.tools import tool
from tests.service.serving import data_url, png, serving

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "vlrm.json"
# Exported by Prometheus itself, not by us.
FOREIGN = {"up"}
WORD = re.compile(r"\b(?:vlrm|process|python|up)(?:_\w+)?\b")


def dashboard_queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def alerts() -> list[dict[str, Any]]:
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


def names(queries: list[str]) -> set[str]:
    """Metric names in PromQL: words with our prefixes, label matchers left out."""
    bare = [re.sub(r'"[^"]*"', "", query) for query in queries]
    return {word for query in bare for word in WORD.findall(query)} - FOREIGN


@pytest.fixture
async def exported(random_scorer: Scorer) -> set[str]:
    """Sample names on /metrics after a little traffic."""
    async with serving(random_scorer) as running:
        body = {"prompt": "What is it?", "images": [data_url(png())]}
        await running.post("/score", {**body, "responses": ["a", "b"]})
        await running.post("/compare", {**body, "response_a": "a", "response_b": "b"})
        text = (await running.client.get("/metrics")).text
    return {re.split(r"[{ ]", line)[0] for line in text.splitlines() if line[:1] not in ("", "#")}


def test_every_query_names_an_exported_metric(exported: set[str]) -> None:
    asked = names(dashboard_queries() + [rule["expr"] for rule in alerts()])
    assert asked, "no metric was recognised"
    assert asked <= exported, asked - exported


def test_every_metric_of_ours_is_on_the_dashboard(exported: set[str]) -> None:
    def family(name: str) -> str:
        return re.sub(r"_(bucket|sum|count|total)$", "", name)

    ours = {family(name) for name in exported if name.startswith("vlrm_")}
    assert ours <= {family(name) for name in names(dashboard_queries())}


def test_every_alert_has_a_firing_and_a_silent_case() -> None:
    cases = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    fired: dict[str, set[str]] = {}
    for case in cases:
        instances = {
            found[1]
            for series in case["input_series"]
            if (found := re.search(r'instance="(\w+)"', series["series"]))
        }
        assert instances == {"bad", "good"}, case["name"]
        for test in case["alert_rule_test"]:
            firing = {alert["exp_labels"]["instance"] for alert in test["exp_alerts"]}
            fired.setdefault(test["alertname"], set()).update(firing)
    assert fired == {rule["alert"]: {"bad"} for rule in alerts()}


def test_every_alert_is_explained() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    for rule in alerts():
        assert f"## {rule['alert']}\n" in page, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        said = rule["annotations"]
        assert said["summary"], rule["alert"]
        assert said["description"], rule["alert"]
        assert said["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_the_dashboard_asks_the_provisioned_source() -> None:
    file = ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
    provisioned = {source["uid"] for source in yaml.safe_load(file.read_text())["datasources"]}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"}
    assert asked == provisioned


@pytest.mark.parametrize(
    "command",
    ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"],
)
def test_promtool_agrees(command: str) -> None:
    ran = subprocess.run(
        [tool("promtool"), *command.split()], cwd=PROMETHEUS, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_the_compose_files_are_valid_and_what_they_mount_exists(name: str) -> None:
    file = ROOT / "deploy" / name
    command = [sys.executable, "-m", "check_jsonschema"]
    command += ["--builtin-schema", "vendor.compose-spec", str(file)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    for service in yaml.safe_load(file.read_text())["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (file.parent / source).exists(), volume


def test_the_composition_is_open_to_this_machine_only_and_pinned() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name
        assert "no-new-privileges:true" in service["security_opt"], name
