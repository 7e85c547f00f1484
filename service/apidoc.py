"""The API's description: what the routes say, plus request bodies, error answers and examples."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from rm_core.errors import RewardError
from service import __version__, examples
from service.compat.cohere import RerankRequest
from service.compat.llamafactory import ScoreEvaluationRequest
from service.compat.openrlhf import GetRewardRequest
from service.compat.vllm import ClassifyRequest, EmbeddingsRequest, PoolingRequest
from service.errors import error_body, status_of
from service.schemas import CompareRequest, RankRequest, ScoreRequest

BODIES: tuple[type[BaseModel], ...] = (
    *(ScoreRequest, CompareRequest, RankRequest),
    *(GetRewardRequest, ClassifyRequest, PoolingRequest, EmbeddingsRequest),
    *(RerankRequest, ScoreEvaluationRequest),
)
REFERENCE = "#/components/schemas/{model}"
DESCRIPTION = (
    "Scores answers to a prompt with pictures. Nothing is ever truncated; every answer carries "
    "X-Request-Id, X-Model-Revision and Server-Timing."
)
ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "field", "request_id"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "field": {"type": ["string", "null"]},
                "request_id": {"type": "string"},
            },
        }
    },
}

Responses = dict[int | str, dict[str, Any]]


def json_body(model: type[BaseModel], cases: dict[str, Any]) -> dict[str, Any]:
    """The requestBody of a route that parses strictly by itself."""
    schema = {"$ref": REFERENCE.format(model=model.__name__)}
    named = {name: {"value": value} for name, value in cases.items()}
    content = {"application/json": {"schema": schema, "examples": named}}
    return {"requestBody": {"required": True, "content": content}}


def answers(*statuses: int, example: Any = None) -> Responses:
    """The 200 example and, for each status, every error that is answered with it."""
    found: Responses = {status: _error_answer(status) for status in statuses}
    if example is not None:
        found[200] = {"content": {"application/json": {"example": example}}}
    return found


def _error_answer(status: int) -> dict[str, Any]:
    cases = [error for error in examples.ERRORS if status_of(type(error)) == status]
    assert cases, f"no example error has status {status}"
    named = {error.code: {"value": error_body(error, "3f0c")} for error in cases}
    schema = {"$ref": REFERENCE.format(model="Error")}
    content = {"application/json": {"schema": schema, "examples": named}}
    answer: dict[str, Any] = {"description": _describe(cases), "content": content}
    if status == 503:
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return answer


def _describe(cases: list[RewardError]) -> str:
    return ", ".join(error.code for error in cases)


def document(app: FastAPI) -> dict[str, Any]:
    """The whole OpenAPI document of `app`, made once."""
    app.openapi_schema = app.openapi_schema or _document(app)
    return app.openapi_schema


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title="Vision-language reward model service",
        version=__version__,
        description=DESCRIPTION,
        routes=app.routes,
    )
    _, bodies = models_json_schema([(m, "validation") for m in BODIES], ref_template=REFERENCE)
    components = found.setdefault("components", {})
    components.setdefault("schemas", {}).update(bodies["$defs"] | {"Error": ERROR_SCHEMA})
    # Nobody needs a key until keys are configured, hence the empty alternative.
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    found["security"] = [{}, {"key": []}]
    _forget_frameworks_errors(found)
    return found


def _forget_frameworks_errors(found: dict[str, Any]) -> None:
    """FastAPI promises its own 422 wherever a header is read; it is never sent here."""
    schemas = found["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for methods in found["paths"].values():
        for operation in methods.values():
            answered = operation["responses"]
            if "HTTPValidationError" in str(answered.get("422")):
                del answered["422"]
