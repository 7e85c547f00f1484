"""The outermost ring: gives a request its id, its headers, its log line and its last safety net."""

import logging
import time
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rm_core.errors import RewardError
from service.errors import CallerLeft, error_response
from service.metrics import Metrics
from service.trace import Trace

logger = logging.getLogger("vlrm.requests")
PROBES = ("/health", "/ready", "/metrics")
CALLER_LEFT = 499  # nobody hears it; logs and metrics use the customary number


class Edge:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, revision: str, metrics: Metrics) -> None:
        self.app, self.revision, self.metrics = app, revision, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        trace = Trace.begin(Headers(scope=scope).get("x-request-id"))
        scope.setdefault("state", {})["trace"] = trace
        answer = Answer(send, trace, self.revision)
        try:
            await self.app(scope, receive, answer.send)
        except (CallerLeft, ClientDisconnect):
            answer.status = CALLER_LEFT
            self.metrics.callers_left.inc()
        except Exception:
            logger.exception("request %s failed unexpectedly", trace.request_id)
            if answer.started:
                raise  # too late for words; the server cuts the connection
            error = RewardError("something unexpected went wrong; the log names it by request id")
            trace.error_code = error.code
            await error_response(error, trace.request_id)(scope, receive, answer.send)
        finally:
            self._finish(scope, answer.status, trace)

    def _finish(self, scope: Scope, status: int, trace: Trace) -> None:
        seconds = time.monotonic() - trace.started
        self.metrics.request_done(route_of(scope), status, seconds, trace)
        quiet = status == 200 and route_of(scope) in PROBES
        logger.log(
            logging.DEBUG if quiet else logging.INFO,
            "%s %s %d %.1fms id=%s%s",
            scope["method"],
            route_of(scope),
            status,
            seconds * 1000,
            trace.request_id,
            f" error={trace.error_code}" if trace.error_code else "",
        )


class Answer:
    """Adds our headers to whatever answer goes out, and remembers its status."""

    def __init__(self, send: Send, trace: Trace, revision: str) -> None:
        self._send, self._trace, self._revision = send, trace, revision
        self.status = 500
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._headers():
                headers[name] = value
        await self._send(message)

    def _headers(self) -> Iterable[tuple[str, str]]:
        yield "X-Request-Id", self._trace.request_id
        yield "X-Model-Revision", self._revision
        yield "Server-Timing", self._trace.server_timing()
        yield "X-Content-Type-Options", "nosniff"


def route_of(scope: Scope) -> str:
    """The route's template, never the caller's own path: labels must stay few."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "unmatched"
