"""openapi.json is current, complete and true."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from service.app import build_api
from service.schemas import CompareRequest, RankRequest, ScoreRequest
from tests.service.serving import Running, data_url, png

FILE = Path(__file__).parents[2] / "openapi.json"
DOCUMENT: dict[str, Any] = build_api().openapi()
MODELS: dict[str, type[BaseModel]] = {
    "/score": ScoreRequest,
    "/compare": CompareRequest,
    "/rank": RankRequest,
}
OPERATIONS = [
    pytest.param(path, method, operation, id=f"{method} {path}")
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def test_the_file_is_current() -> None:
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    # The version is pyproject's; a checkout that is not installed does not know it.
    fresh = DOCUMENT | {"info": DOCUMENT["info"] | {"version": kept["info"]["version"]}}
    assert kept == fresh, "run: make openapi"


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from references(child)


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    found = set(references(DOCUMENT))
    assert found
    assert {reference.rpartition("/")[2] for reference in found} <= schemas.keys()


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_each_answer_has_an_example(path: str, method: str, operation: dict[str, Any]) -> None:
    for status, answer in operation["responses"].items():
        if (path == "/model" and status == "200") or status == "201":
            continue  # shown by the live answer; a made-up one would only age
        content = next(iter(answer["content"].values()))
        assert "example" in content or content["examples"], status


@pytest.mark.parametrize("path", MODELS)
def test_request_examples_are_valid(path: str) -> None:
    content = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert content["examples"]
    for example in content["examples"].values():
        MODELS[path].model_validate(example["value"])


@pytest.mark.parametrize("path", MODELS)
async def test_real_answers_have_the_keys_of_their_example(server: Running, path: str) -> None:
    operation = DOCUMENT["paths"][path]["post"]
    request = operation["requestBody"]["content"]["application/json"]["examples"]["short"]["value"]
    real = (await server.post(path, request | {"images": [data_url(png())]})).json()
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert keys(real) == keys(example)


def keys(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: keys(value) for name, value in node.items()}
    return [keys(child) for child in node] if isinstance(node, list) else None


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_errors_have_our_shape(path: str, method: str, operation: dict[str, Any]) -> None:
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            schema = answer["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Error"}
