"""What the pages promise is checked against the code."""

import importlib.util
import inspect
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import rm_core.errors
import service.errors
from rm_core.errors import (
    CheckpointError,
    CheckpointMismatch,
    OutOfMemory,
    RewardError,
    UnknownName,
)
from service.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
API = (ROOT / "docs" / "api.md").read_text()
CONFIGURATION = ROOT / "docs" / "configuration.md"


def settings_table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("table", ROOT / "docs" / "settings_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_setting_is_documented(name: str) -> None:
    assert f"`VLRM_{name.upper()}`" in CONFIGURATION.read_text()


def test_the_table_of_settings_is_current() -> None:
    page = CONFIGURATION.read_text()
    assert settings_table().written(page) == page, "run: make docs"


def test_each_variable_a_page_names_exists() -> None:
    known = {f"VLRM_{name.upper()}" for name in Settings.model_fields} | {"VLRM_CONFIG"}
    for page in PAGES:
        named = set(re.findall(r"VLRM_[A-Z_]+[A-Z]", page.read_text()))
        assert named <= known, page.name


def test_each_route_is_documented() -> None:
    for path in json.loads((ROOT / "openapi.json").read_text())["paths"]:
        assert f" {path}`" in API, path


# These stop a start or a command; no request ever meets them.
OFFLINE: set[type[RewardError]] = {
    CheckpointError,
    CheckpointMismatch,
    OutOfMemory,
    UnknownName,
}


def errors() -> set[type[RewardError]]:
    return {
        value
        for module in (rm_core.errors, service.errors)
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, RewardError)
    }


def test_each_error_code_is_documented_with_its_status() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| (.+) \|$", API, re.M)
    documented = {
        (code, status)
        for statuses, codes in rows
        for status in statuses.split(", ")
        for code in re.findall(r"`([a-z_]+)`", codes)
    }
    sent = {(error.code, str(service.errors.status_of(error))) for error in errors() - OFFLINE}
    assert sent <= documented
    assert {code for code, _ in documented} == {code for code, _ in sent}


def test_each_error_of_the_command_line_is_documented() -> None:
    assert all(f"`{error.code}`" in API for error in OFFLINE)


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_the_readme_leads_to_each_page(page: Path) -> None:
    assert f"({page.relative_to(ROOT)}" in (ROOT / "README.md").read_text()


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_each_make_word_exists() -> None:
    words = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        code = re.findall(r"`make ([a-z-]+)", page.read_text())
        code += re.findall(r"^make ([a-z-]+)", page.read_text(), re.M)
        assert set(code) <= words, page.name


def test_the_changelog_speaks_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None
    assert newest[1] == version
