"""A server on a real socket that says what a test tells it to, and notes what it was asked."""

import asyncio
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import uvicorn

from service.schemas import ModelName, Score, ScoreResponse, Usage


@dataclass(frozen=True)
class Reply:
    """One answer; the last one of a script is given again and again."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    after_s: float = 0.0


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float


def refusal(status: int, code: str, **headers: str) -> Reply:
    error = {"code": code, "message": f"it is {code}", "field": None, "request_id": "from-server"}
    return Reply(status, {"error": error}, {k.replace("_", "-"): v for k, v in headers.items()})


def good(*scores: float, revision: str = "r1") -> Reply:
    rows = [Score(index=i, score=s, normalized=None, tokens=3) for i, s in enumerate(scores)]
    usage = Usage(prompt_tokens=1, image_tokens=0, response_tokens=3, computed_tokens=4)
    model = ModelName(name="stub", revision=revision)
    return Reply(
        200, ScoreResponse(id="score-1", model=model, scores=rows, usage=usage).model_dump()
    )


class StubServer:
    """`with StubServer(refusal(503, "overloaded"), good(1.0)) as server: ... server.url`"""

    def __init__(self, *script: Reply) -> None:
        self._script = list(script)
        self.asked: list[Asked] = []
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            self._app, interface="asgi3", log_config=None, access_log=False, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._socket.close()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append(Asked(scope["method"], scope["path"], headers, body, time.monotonic()))
        reply = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        await asyncio.sleep(reply.after_s)
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        raw = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        await send({"type": "http.response.body", "body": content})
