"""From bytes on the wire to an accepted call: media type, admission, body, permit, schema."""

import math
from collections.abc import AsyncIterator, Callable
from typing import Annotated, TypeVar

from fastapi import Header, Request
from pydantic import BaseModel, ValidationError

from service import strictjson
from service.deps import Call, PartsDep, TraceDep
from service.errors import UnsupportedMediaType
from service.limits import Priority, read_body
from service.prepare import Preparer
from service.problems import invalid
from service.trace import Trace

# Below this a thread costs more than the parsing it takes off the event loop.
PARSE_INLINE_BYTES = 64 * 1024
Body = TypeVar("Body", bound=BaseModel)


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
        settings, deadline = parts.settings, _deadline(trace, deadline_ms)
        with trace.stage("read"):
            data = await read_body(
                request,
                limit=settings.max_body_bytes,
                timeout_s=settings.body_timeout_s,
                deadline=deadline,
            )
        with parts.admission.permit(priority):
            with trace.stage("read"):
                body = await _parsed(model, data, parts.preparer)
            yield Call(body, trace, deadline, bulk=priority == "bulk")

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
