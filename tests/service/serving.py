"""A whole server inside the test: the real app, the real scorer, no socket."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI
from PIL import Image as Pillow

from rm_core.images import decode
from rm_core.packing import PackedBatch
from rm_core.scorer import Scorer
from rm_core.types import Conversation, Image, ScoreGroup
from service.app import create_app
from service.deps import Parts
from service.dial import Internet
from service.settings import Settings

QUESTION = "What is shown?"
ANSWERS = ("A red apple.", "A bicycle.", "It is a small red apple on a table.")
# Scores depend on who else is in the batch by float32 rounding only.
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Running:
    client: httpx.AsyncClient
    app: FastAPI
    parts: Parts

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = json.dumps(body)
        return await self.client.post(
            path, content=data, headers={"content-type": "application/json", **named}
        )


@asynccontextmanager
async def serving(
    scorer: Any, internet: Internet | None = None, **settings: Any
) -> AsyncIterator[Running]:
    """The app with its lifespan running, past its golden self check."""
    app = create_app(Settings(**settings), scorer, internet)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://reward") as client,
    ):
        running = Running(client, app, app.state.parts)
        await until(lambda: running.parts.self_check is not None)
        yield running


async def until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Wait for something that another task or thread is about to do."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (threads set no asyncio events)
            await asyncio.sleep(0.002)


class Interrupted:
    """The real scorer, with something happening on the device thread before each forward pass."""

    def __init__(self, scorer: Scorer, before: Callable[[PackedBatch], None]) -> None:
        self.calibration, self.encode = scorer.calibration, scorer.encode
        self.batches: list[int] = []
        self._scorer, self._before = scorer, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    def forward(self, batch: PackedBatch) -> list[list[float]]:
        self.batches.append(len(batch.spans))
        self._before(batch)
        return self._scorer.forward(batch)


class Caller:
    """A raw ASGI caller who can hang up."""

    def __init__(self, body: Any) -> None:
        self.gone = asyncio.Event()
        self.sent: list[Any] = []
        data = json.dumps(body).encode()
        self._messages = [{"type": "http.request", "body": data, "more_body": False}]

    async def receive(self) -> Any:
        if self._messages:
            return self._messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def call(self, server: Running) -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/score",
            "raw_path": b"/score",
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "headers": [(b"content-type", b"application/json")],
        }
        await server.app(scope, self.receive, self.send)


def png(width: int = 60, height: int = 48, colour: str = "red", kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    Pillow.new("RGB", (width, height), colour).save(data, kind)
    return data.getvalue()


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def opened(data: bytes) -> Image:
    return decode(data, max_pixels=1_000_000)


def asked(question: str, answers: Sequence[str], *pictures: bytes) -> ScoreGroup:
    """What the server should make of the same request."""
    return ScoreGroup(Conversation.ask(question, *map(opened, pictures)), tuple(answers))
