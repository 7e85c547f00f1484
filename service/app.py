"""Where the parts meet: settings and a scorer in, an ASGI application out."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from rm_core.errors import RewardError
from service import apidoc
from service.auth import ApiKeys
from service.batching import Sizes
from service.deps import Parts
from service.dial import Internet
from service.edge import Edge
from service.errors import MethodNotAllowed, NotFound, error_response
from service.fetch import Fetcher
from service.limits import Admission
from service.media import ImageStore
from service.metrics import Metrics
from service.prepare import Preparer
from service.problems import invalid
from service.routes import compat, images, ops, pages, score
from service.scheduler import Scheduler
from service.selfcheck import check
from service.settings import Settings
from service.worker import Worker

if TYPE_CHECKING:
    from rm_core.scorer import Scorer

logger = logging.getLogger("vlrm.app")


def create_app(settings: Settings, scorer: "Scorer", internet: Internet | None = None) -> FastAPI:
    """A server for `scorer`; it becomes ready once the golden self check has passed.

    Pictures are fetched through `internet`, by default the real one.
    """
    parts = assemble(settings, scorer, internet)
    app = build_api()
    app.state.parts = parts
    app.add_middleware(Edge, revision=scorer.info.revision, metrics=parts.metrics)
    return app


def build_api() -> FastAPI:
    """Routes and error answers without a model behind them: enough for openapi.json."""
    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    for routes in (score, compat, images, ops, pages):
        app.include_router(routes.router)
    app.mount("/static", StaticFiles(directory=pages.STATIC), name="static")
    app.add_exception_handler(RewardError, answer_error)
    app.add_exception_handler(RequestValidationError, answer_error)
    app.add_exception_handler(HTTPException, answer_error)
    app.openapi = lambda: apidoc.document(app)  # type: ignore[method-assign]
    return app


def assemble(settings: Settings, scorer: "Scorer", internet: Internet | None) -> Parts:
    """One of each part, wired together."""
    metrics = Metrics(CollectorRegistry())
    store = ImageStore(settings.image_store_bytes)
    fetcher = None
    if settings.media_urls != "off":
        fetcher = Fetcher(settings, metrics, internet or Internet())
    worker = Worker(scorer)
    scheduler = Scheduler(
        worker,
        scorer.cost,
        Sizes.on(scorer.info.device, settings.max_batch_tokens),
        settings.max_wait_s,
        metrics,
    )
    parts = Parts(
        settings=settings,
        scorer=scorer,
        keys=ApiKeys.of(settings),
        admission=Admission(settings.max_in_flight, scheduler.expected_wait_s),
        store=store,
        preparer=Preparer(scorer.encode, store, settings, fetcher),
        worker=worker,
        scheduler=scheduler,
        metrics=metrics,
    )
    watch(parts)
    return parts


def watch(parts: Parts) -> None:
    """Gauges that read the parts themselves when they are scraped."""
    metrics, info = parts.metrics, parts.scorer.info
    metrics.watch(metrics.in_flight, lambda: parts.admission.in_flight)
    metrics.watch(metrics.queue_groups, lambda: len(parts.scheduler))
    metrics.watch(metrics.expected_wait, parts.scheduler.expected_wait_s)
    metrics.watch(metrics.batch_budget, lambda: parts.scheduler.budget)
    metrics.watch(metrics.ready, lambda: parts.admission.ready and not parts.scheduler.is_broken)
    metrics.watch(metrics.draining, lambda: parts.admission.draining)
    metrics.watch(metrics.store_bytes, lambda: parts.store.size_bytes)
    metrics.watch(metrics.store_images, lambda: len(parts.store))
    metrics.watch_caches(
        {"features": parts.scorer.features.kept, "prefixes": parts.scorer.prefixes.kept}
    )
    metrics.model_info.labels(
        info.name, info.revision, info.head, info.dtype, info.device, info.attention
    ).set(1)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start the loop over the queue and the self check; leave nobody waiting at the end."""
    parts: Parts = app.state.parts
    tasks = [asyncio.create_task(parts.scheduler.run()), asyncio.create_task(check(parts))]
    tasks[0].add_done_callback(lambda task: batch_loop_ended(task, parts))
    try:
        yield
    finally:
        parts.admission.drain()
        parts.scheduler.abandon()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        parts.worker.close()
        parts.preparer.close()


def batch_loop_ended(task: asyncio.Task[None], parts: Parts) -> None:
    """It never should; if it does, callers must hear of it instead of waiting for ever."""
    if not task.cancelled():
        logger.critical("the batch loop ended", exc_info=task.exception())
        parts.admission.not_ready = "the batch loop ended with an error; restart the server"
        parts.scheduler.abandon()


async def answer_error(request: Request, error: Exception) -> Response:
    """Every refusal leaves through here, in the one shape."""
    known = as_reward_error(request, error)
    request.state.trace.error_code = known.code
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return error_response(known, request.state.trace.request_id, headers)


def as_reward_error(request: Request, error: Exception) -> RewardError:
    """The frameworks' own errors in our words."""
    if isinstance(error, RewardError):
        return error
    if isinstance(error, RequestValidationError):
        return invalid(error.errors())
    assert isinstance(error, HTTPException), error
    if error.status_code == 405:
        return MethodNotAllowed(f"{request.method} is not a method of this route")
    if error.status_code == 404:
        return NotFound("there is no such route; GET /docs lists them")
    return RewardError(str(error.detail))
