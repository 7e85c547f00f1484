"""openapi.json is current, complete and true."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from service.apidoc import BODIES
from service.app import build_api
from service.metrics import SCORING_ROUTES
from tests.service.serving import Running, data_url, png

FILE = Path(__file__).parents[2] / "openapi.json"
DOCUMENT: dict[str, Any] = build_api().openapi()
MODELS: dict[str, type[BaseModel]] = {body.__name__: body for body in BODIES}


def takes_json(methods: dict[str, Any]) -> bool:
    body = methods.get("post", {}).get("requestBody", {"content": {}})
    return "application/json" in body["content"]


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


SCORING = [path for path, methods in DOCUMENT["paths"].items() if takes_json(methods)]
NATIVE = ("/score", "/compare", "/rank")


def described_request(path: str) -> dict[str, Any]:
    body = DOCUMENT["paths"][path]["post"]["requestBody"]
    request: dict[str, Any] = body["content"]["application/json"]
    return request


def test_every_body_is_described_by_one_route() -> None:
    named = [described_request(path)["schema"]["$ref"].rpartition("/")[2] for path in SCORING]
    assert sorted(named) == sorted(MODELS)


def test_every_scoring_route_has_its_numbers_from_the_start() -> None:
    assert sorted(SCORING) == sorted(SCORING_ROUTES)


@pytest.mark.parametrize("path", SCORING)
def test_request_examples_are_valid(path: str) -> None:
    request = described_request(path)
    model = MODELS[request["schema"]["$ref"].rpartition("/")[2]]
    assert request["examples"]
    for example in request["examples"].values():
        model.model_validate(example["value"])


@pytest.mark.parametrize("path", SCORING)
async def test_real_answers_have_the_keys_of_their_example(server: Running, path: str) -> None:
    request = next(iter(described_request(path)["examples"].values()))["value"]
    images = {"images": [data_url(png())]} if path in NATIVE else {}
    answer = await server.post(path, request | images)
    assert answer.status_code == 200, answer.text
    described = DOCUMENT["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]
    real, example = answer.json(), copy.deepcopy(described["example"])
    # Only a calibrated model has it, and this one is not.
    example.get("extra_logs", {}).pop("reward_normalized", None)
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
