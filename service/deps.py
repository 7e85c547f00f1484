"""What routes ask for: the assembled parts, the caller's rights, and the call."""

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

from fastapi import Depends, Header, Request
from pydantic import BaseModel

from service.auth import ApiKeys
from service.errors import Forbidden, MissingKey
from service.limits import Admission
from service.media import ImageStore
from service.metrics import Metrics
from service.prepare import Preparer
from service.scheduler import Scheduler
from service.settings import Settings
from service.trace import Trace
from service.worker import Worker

if TYPE_CHECKING:
    from rm_core.golden import SelfCheck
    from rm_core.packing import PackedBatch
    from rm_core.scorer import Scorer

Body_co = TypeVar("Body_co", bound=BaseModel, covariant=True)


@dataclass(slots=True)
class Parts:
    """Everything create_app put together; the self check arrives later."""

    settings: Settings
    scorer: "Scorer"
    keys: ApiKeys
    admission: Admission
    store: ImageStore
    preparer: Preparer
    worker: "Worker[PackedBatch]"
    scheduler: Scheduler
    metrics: Metrics
    self_check: "SelfCheck | None" = None


@dataclass(frozen=True, slots=True)
class Call(Generic[Body_co]):
    """A parsed request that holds a permit, and the time it may take."""

    body: Body_co
    trace: Trace
    deadline: float
    bulk: bool


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
