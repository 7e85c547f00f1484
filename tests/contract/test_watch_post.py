"""Dashboards and alerts speak of numbers the server really exports, and each alert can fire."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import service.errors
from rm_core.errors import RewardError
from rm_core.scorer import Scorer
from service.metrics import SCORING_ROUTES
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


def test_every_refusal_an_alert_counts_is_one_the_server_gives() -> None:
    errors = [value for value in vars(service.errors).values() if isinstance(value, type)]
    given = {error.code for error in errors if issubclass(error, RewardError)}
    asked = re.findall(r'reason="(\w+)"', " ".join(rule["expr"] for rule in alerts()))
    assert asked
    assert set(asked) <= given


def test_the_alert_on_slow_answers_hears_of_every_scoring_route() -> None:
    (expression,) = [rule["expr"] for rule in alerts() if rule["alert"] == "SlowAnswers"]
    (routes,) = re.findall(r'route=~"([^"]+)"', expression)
    assert tuple(routes.split("|")) == SCORING_ROUTES


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
