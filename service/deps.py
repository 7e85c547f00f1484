"""What routes ask for: the assembled parts, the caller's rights, and an accepted call."""

import ipaddress
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

from fastapi import Depends, Header, Request
from pydantic import ValidationError

from service import strictjson
from service.auth import ApiKeys
from service.errors import Forbidden, MissingKey, UnsupportedMediaType
from service.limits import Admission, Priority, read_body
from service.media import ImageStore
from service.metrics import Metrics
from service.prepare import Preparer
from service.problems import invalid
from service.scheduler import Scheduler
from service.schemas import AnyRequest, CompareRequest, RankRequest, ScoreRequest
from service.settings import Settings
from service.trace import Trace
from service.worker import Worker

if TYPE_CHECKING:
    from rm_core.golden import SelfCheck
    from rm_core.scorer import Scorer

# Below this a thread costs more than the parsing it takes off the event loop.
PARSE_INLINE_BYTES = 64 * 1024
Body = TypeVar("Body", ScoreRequest, CompareRequest, RankRequest)
Body_co = TypeVar("Body_co", bound=AnyRequest, covariant=True)


@dataclass(slots=True)
class Parts:
    """Everything create_app put together; the self check arrives later."""

    settings: Settings
    scorer: "Scorer"
    keys: ApiKeys
    admission: Admission
    store: ImageStore
    preparer: Preparer
    worker: Worker
    scheduler: Scheduler
    metrics: Metrics
    self_check: "SelfCheck | None" = None


@dataclass(frozen=True, slots=True)
class Call(Generic[Body_co]):
    """A parsed request that holds a permit, and the time it may take."""

    body: Body_co
    trace: Trace
    deadline: float


async def get_parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(get_parts)]


async def get_trace(request: Request) -> Trace:
    trace: Trace = request.state.trace
    return trace


TraceDep = Annotated[Trace, Depends(get_trace)]


async def require_key(
    parts: PartsDep, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> None:
    """Any known key, once keys are configured."""
    if parts.keys.keys and parts.keys.find(authorization) is None:
        raise MissingKey("this server needs a key: send Authorization: Bearer <key>")


async def require_admin(
    request: Request,
    parts: PartsDep,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> None:
    """An admin key; without keys, a program on this machine (a browser page sends an Origin)."""
    if parts.keys.keys:
        await require_key(parts, authorization)
        key = parts.keys.find(authorization)
        if key is None or not key.admin:
            raise Forbidden("this route needs a key marked `admin` in the keys file")
    elif not _is_local(request) or "origin" in request.headers:
        raise Forbidden("without configured keys this route answers local programs only")


def _is_local(request: Request) -> bool:
    try:
        return ipaddress.ip_address(request.client.host if request.client else "").is_loopback
    except ValueError:
        return False


def accepted(model: type[Body]) -> Callable[..., AsyncIterator[Call[Body]]]:
    """Read, admit and parse a JSON body; the permit is held until the answer is out."""

    async def accept(
        request: Request,
        parts: PartsDep,
        trace: TraceDep,
        deadline_ms: Annotated[
            int | None, Header(alias="X-Deadline-Ms", ge=1, le=3_600_000)
        ] = None,
        priority: Annotated[Priority, Header(alias="X-Priority")] = "interactive",
    ) -> AsyncIterator[Call[Body]]:
        require_json(request)
        parts.admission.check(priority)
        settings = parts.settings
        with trace.stage("read"):
            data = await read_body(
                request, limit=settings.max_body_bytes, timeout_s=settings.body_timeout_s
            )
        with parts.admission.permit(priority):
            with trace.stage("read"):
                body = await _parsed(model, data, parts.preparer)
            yield Call(body, trace, _deadline(trace, deadline_ms))

    return accept


async def _parsed(model: type[Body], data: bytes, preparer: Preparer) -> Body:
    if len(data) <= PARSE_INLINE_BYTES:
        return parse_body(model, data)
    return await preparer.run(lambda: parse_body(model, data))


def parse_body(model: type[Body], data: bytes) -> Body:
    """Strict JSON, then the schema; an error names the field."""
    try:
        return model.model_validate(strictjson.parse(data))
    except ValidationError as error:
        raise invalid(error.errors(include_input=False, include_url=False)) from None


def require_json(request: Request) -> None:
    """UTF-8 JSON, uncompressed; anything else is refused before it is read."""
    content_type = request.headers.get("content-type", "")
    kind, _, rest = content_type.partition(";")
    charset = rest.strip().lower().replace('"', "")
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise UnsupportedMediaType("send Content-Type: application/json (UTF-8)")
    require_plain(request)


def require_plain(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("send the body uncompressed, without Content-Encoding")


def _deadline(trace: Trace, deadline_ms: int | None) -> float:
    if deadline_ms is None:
        return math.inf
    # The loop's clock is time.monotonic too, so the budget counts from the first byte.
    return trace.started + deadline_ms / 1000
