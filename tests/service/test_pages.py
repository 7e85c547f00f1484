"""The pages work without any outside host."""

import re
from pathlib import Path

import pytest

from service.routes.pages import STATIC
from tests.service.serving import Running

FILES = sorted(path for path in STATIC.iterdir() if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_names_an_outside_host(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(https?:)?//[a-z]", text, re.IGNORECASE)
    assert not re.search(r"\bon[a-z]+=|style=|javascript:", text), "the page's CSP forbids it"


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_pages_and_all_they_load_are_served_here(server: Running, path: str) -> None:
    page = await server.client.get(path)
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    loaded = re.findall(r'(?:src|href)="(/[^"]*)"', page.text)
    assert len(loaded) >= 4
    for address in loaded:
        assert (await server.client.get(address)).status_code == 200, address


@pytest.mark.parametrize("name", ["playground", "docs"])
def test_scripts_ask_only_for_elements_that_exist(name: str) -> None:
    script = (STATIC / f"{name}.js").read_text(encoding="utf-8")
    page = (STATIC / f"{name}.html").read_text(encoding="utf-8")
    asked = set(re.findall(r'(?:\$|getElementById)\("([\w-]+)"\)', script))
    assert asked
    assert asked <= set(re.findall(r'id="([\w-]+)"', page))
