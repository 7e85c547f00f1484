"""The composition is valid, confined, open to this machine only, and mounts what exists."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.dockerfile import last

ROOT = Path(__file__).parents[2]
DASHBOARD = "vlrm.json"


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


def composed() -> dict[str, dict[str, Any]]:
    file = ROOT / "deploy" / "compose.yaml"
    services: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["services"]
    return services


def test_the_composition_is_open_to_this_machine_only_and_pinned() -> None:
    for name, service in composed().items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name


def test_every_service_is_confined_and_says_whether_it_is_well() -> None:
    for name, service in composed().items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["healthcheck"]["test"][0] == "CMD", name
        user = last("USER") if "build" in service else service["user"]
        assert user.split(":")[0] not in ("", "0", "root"), name


def test_grafana_looks_for_dashboards_where_they_are_mounted() -> None:
    grafana = composed()["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    mounted = mounts["./grafana/dashboards"]
    provider = ROOT / "deploy" / "grafana" / "provisioning" / "dashboards" / "vlrm.yaml"
    paths = [p["options"]["path"] for p in yaml.safe_load(provider.read_text())["providers"]]
    assert paths == [mounted]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{mounted}/{DASHBOARD}"
