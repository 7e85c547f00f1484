"""The app on a real port, for callers that bring their own HTTP client."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from tests.service.serving import Running, serving


@asynccontextmanager
async def listening(scorer: Any, **settings: Any) -> AsyncIterator[tuple[Running, str]]:
    """The running app, and `host:port` it answers on."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        async with serving(scorer, **settings) as running:
            config = uvicorn.Config(running.app, lifespan="off", log_level="warning")
            server = uvicorn.Server(config)
            task = asyncio.create_task(server.serve([door]))
            try:
                yield running, f"127.0.0.1:{door.getsockname()[1]}"
            finally:
                server.should_exit = True
                await task
