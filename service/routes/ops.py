"""Health, readiness, metrics, the model's identity, and draining."""

import dataclasses
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from service import __version__
from service.apidoc import answers
from service.deps import PartsDep, require_admin, require_key
from service.errors import NotReady
from service.schemas import ModelResponse

if TYPE_CHECKING:
    from rm_core.golden import SelfCheck

LIBRARIES = ("torch", "transformers", "tokenizers", "pillow", "numpy", "fastapi", "uvicorn")

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    status: str


class Drained(BaseModel):
    draining: bool
    in_flight: int


@router.get("/health", responses=answers(example={"status": "ok"}))
async def health() -> Health:
    """Alive: the event loop answers. Says nothing about the model; see /ready."""
    return Health(status="ok")


@router.get("/ready", responses=answers(503, example={"status": "ready"}))
async def ready(parts: PartsDep) -> Health:
    """Ready for work: model loaded, golden self check passed, not draining."""
    admission = parts.admission
    # A full server stays ready: taking it out would push its load onto the others.
    if not admission.ready and (refusal := admission.refusal()):
        raise refusal
    if parts.scheduler.is_broken:
        raise NotReady("the last forward passes all failed; the log has the tracebacks")
    return Health(status="ready")


@router.get(
    "/metrics",
    dependencies=[Depends(require_key)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"example": "vlrm_ready 1.0\n"}}}, **answers(401)},
)
async def metrics(parts: PartsDep) -> Response:
    """Prometheus text format."""
    return Response(parts.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


@router.get("/model", dependencies=[Depends(require_key)], responses=answers(401))
async def model(parts: PartsDep) -> ModelResponse:
    """Which model answers, down to digests and library versions."""
    scorer = parts.scorer
    return ModelResponse(
        **{
            field.name: getattr(scorer.info, field.name)
            for field in dataclasses.fields(scorer.info)
        },
        calibration=dataclasses.asdict(scorer.calibration) if scorer.calibration else None,
        self_check=exam(parts.self_check) if parts.self_check else None,
        versions={"vlrm": __version__} | {name: _version(name) for name in LIBRARIES},
    )


@router.post(
    "/admin/drain",
    dependencies=[Depends(require_admin)],
    responses=answers(401, 403, example={"draining": True, "in_flight": 3}),
)
async def drain(parts: PartsDep) -> Drained:
    """Take no new work from now on; what is accepted is still answered. Ends with the process."""
    parts.admission.drain()
    return Drained(draining=True, in_flight=parts.admission.in_flight)


def exam(result: "SelfCheck") -> dict[str, Any]:
    return dataclasses.asdict(result) | {"passed": result.passed}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
