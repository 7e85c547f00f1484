"""The server process: bind, load, listen, and on SIGTERM finish what was accepted and exit 0."""

import gc
import logging
import os
import signal
import socket
import time
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from service import logs
from service.app import create_app
from service.auth import ApiKeys
from service.deps import Parts
from service.settings import Settings, SettingsError
from service.worker import limit_threads

if TYPE_CHECKING:
    from rm_core.options import Options
    from rm_core.scorer import Scorer

logger = logging.getLogger("vlrm.serve")
# After the drain, what is still open is only callers who do not read or never finish sending.
CLOSE_CONNECTIONS_S = 2
KEEP_ALIVE_S = 60


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    logs.configure(settings.log_level)
    ApiKeys.of(settings)  # what is wrong with the keys or the port is said before the slow part
    listener = bind(settings)
    app = create_app(settings, load_scorer(settings))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSE_CONNECTIONS_S,
    )
    # What is loaded by now lives as long as the process: the collector need not walk it again.
    gc.collect()
    gc.freeze()
    server = DrainingServer(config, app.state.parts, listener)
    server.run(sockets=[listener])
    if app.state.parts.worker.busy:
        # A thread inside the device cannot be stopped, and Python would wait for it for ever.
        logger.error("a forward pass did not end within the drain time; leaving it behind")
        os._exit(1)
    return 0


def bind(settings: Settings) -> socket.socket:
    """Claim the port; nobody can connect until the server listens."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only where it sees the protocol named;
    # without it every kept-alive request waits 40 ms for a delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on host {settings.host} port {settings.port}: {error.strerror}"
        ) from error
    return listener


def load_scorer(settings: Settings) -> "Scorer":
    # Idle OpenMP threads would spin on the cores that prepare the next requests.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    limit_threads(settings.threads)
    from rm_core.scorer import Scorer  # imports torch; bad settings are refused before this

    return Scorer.load(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        max_pixels=settings.max_pixels,
        options=options(settings),
    )


def options(settings: Settings) -> "Options":
    """The caches' defaults are for mode fast; invariant keeps nothing."""
    from rm_core.options import Options

    fast = settings.score_mode == "fast"
    return Options(
        attention=settings.attention,
        score_mode=settings.score_mode,
        feature_cache_bytes=settings.feature_cache_bytes if fast else 0,
        prefix_cache_bytes=settings.prefix_cache_bytes if fast else 0,
    )


class DrainingServer(uvicorn.Server):
    """uvicorn closes its listener at once; we first answer 503 while accepted work is finished."""

    def __init__(self, config: uvicorn.Config, parts: Parts, listener: socket.socket) -> None:
        super().__init__(config)
        self._parts, self._listener = parts, listener
        self._stop_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # On standard error like the log: standard output is for data.
        for line in banner(self._parts, *self._listener.getsockname()[:2]):
            logger.info(line)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """First signal: drain. Second: now. uvicorn would also re-raise it and exit as killed."""
        if self._stop_at is not None:
            self.force_exit = self.should_exit = True
            return
        logger.info("%s: draining", signal.Signals(sig).name)
        self._parts.admission.drain()
        self._stop_at = time.monotonic() + self._parts.settings.drain_s

    async def on_tick(self, counter: int) -> bool:
        if self._stop_at is not None:
            overdue = time.monotonic() >= self._stop_at
            if overdue:
                self._parts.scheduler.abandon()
            self.should_exit |= overdue or self._parts.admission.in_flight == 0
        return await super().on_tick(counter)


def banner(parts: Parts, host: str, port: int) -> list[str]:
    """Where to look, and who can."""
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    info, settings = parts.scorer.info, parts.settings
    lines = [
        f"model      {info.name} {info.revision[:19]} {info.dtype} on {info.device}",
        f"playground {address}/",
        f"docs       {address}/docs",
        f"health     {address}/health  {address}/ready  {address}/metrics",
    ]
    if not parts.keys.keys:
        who = "this machine only" if settings.is_loopback else "ANYONE who reaches this address"
        lines.append(f"access     {who}, because no API keys are configured (api_keys_file)")
    return lines
