"""Keys: which routes need one, and which key may do what."""

import hashlib
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from rm_core.scorer import Scorer
from service.app import build_api
from service.auth import ApiKeys
from service.settings import SettingsError
from tests.service.serving import serving

OPEN = {"/health", "/ready", "/openapi.json", "/", "/docs"}


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\nuser {digest('one')}\nops {digest('two')}  admin\n")
    return file


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Bearer one", "user"),
        ("bearer two", "ops"),
        ("Bearer three", None),
        ("Basic one", None),
        ("one", None),
        ("Bearer ", None),
        ("Bearer " + digest("one"), None),
        (None, None),
    ],
)
def test_a_key_is_found_by_its_secret_only(
    keys_file: Path, header: str | None, name: str | None
) -> None:
    key = ApiKeys.read(keys_file).find(header)
    assert (key.name if key else None) == name


@pytest.mark.parametrize("text", ["", "# only a comment", "user secret", "user " + "A" * 64])
def test_a_keys_file_that_would_lock_everybody_out_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(SettingsError, match="api_keys_file"):
        ApiKeys.read(file)


def test_a_missing_keys_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        ApiKeys.read(tmp_path / "none")


def routes(app: FastAPI) -> list[tuple[str, str]]:
    described = app.openapi()["paths"]
    return [(method, path) for path, methods in described.items() for method in methods]


async def test_every_route_but_the_open_ones_needs_a_key(
    random_scorer: Scorer, keys_file: Path
) -> None:
    async with serving(random_scorer, api_keys_file=keys_file) as server:
        every = routes(server.app)
        assert {"/score", "/compare", "/rank", "/metrics", "/model"} <= {path for _, path in every}
        for method, path in every:
            answer = await server.client.request(method, path.format(sha256="a" * 64))
            is_open = path in OPEN
            assert (answer.status_code == 200) is is_open, path
            if not is_open:
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["error"]["code"] == "unauthorized"


async def test_a_key_opens_the_routes_and_only_an_admin_key_drains(
    random_scorer: Scorer, keys_file: Path
) -> None:
    async with serving(random_scorer, api_keys_file=keys_file) as server:
        body = {"prompt": "x", "response": "y"}
        scored = await server.post("/score", body, **bearer("one"))
        assert scored.status_code == 200
        assert (await server.client.get("/metrics", headers=bearer("one"))).status_code == 200
        refused = await server.client.post("/admin/drain", headers=bearer("one"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        allowed = await server.client.post("/admin/drain", headers=bearer("two"))
        assert allowed.status_code == 200


def test_the_pages_are_the_only_routes_outside_the_description() -> None:
    hidden = {
        route.path
        for route in build_api().routes
        if isinstance(route, APIRoute) and not route.include_in_schema
    }
    assert hidden <= OPEN
