"""A small internet inside the test: names, public addresses, and real servers behind them."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpcore

from service.dial import Internet
from tests.contract.tools import tool

NAME, ADDRESS = "pictures.example", "93.184.216.34"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Site:
    """A real server on loopback whose answers, well-formed or not, a test writes byte by byte."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes | Script] = {}
        self.heads: list[str] = []
        self.names: list[str | None] = []  # what TLS asked for
        self.connections = self.open = 0
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            page = self.pages.get(head.split(" ")[1], reply(status=404))
            if isinstance(page, bytes):
                writer.write(page)
                await writer.drain()
            else:
                await page(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side hung up, which some tests want
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def site(tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    made = Site()
    if tls is not None:
        tls.sni_callback = lambda _, name, __: made.names.append(name)
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await until_closed(made)


async def until_closed(made: Site) -> None:
    async with asyncio.timeout(10):
        while made.open:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Web(httpcore.AsyncNetworkBackend):
    """DNS and routing. What it does not know does not exist; what was asked is remembered."""

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {}  # one answer after another; the last one stays
        self.routes: dict[tuple[str, int], int] = {}
        self.asked: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self._network = httpcore.AnyIOBackend()

    def internet(self, tls: ssl.SSLContext | None = None) -> Internet:
        return Internet(self.resolve, self, tls or ssl.create_default_context())

    def add(self, made: Site, name: str = NAME, address: str = ADDRESS, port: int = 80) -> None:
        self.names[name] = [[address]]
        self.routes[address, port] = made.port

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self.names.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, f"{host} is unknown to 10.0.0.53")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.dialled.append((host, port))
        if (host, port) not in self.routes:
            raise httpcore.ConnectError(f"no route to {host}")
        return await self._network.connect_tcp("127.0.0.1", self.routes[host, port], timeout)


def reply(body: bytes = b"", status: int = 200, **headers: str) -> bytes:
    """A whole answer; `content_length` and the like replace what is right."""
    named = {"content-length": str(len(body))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{k}: {v}" for k, v in named.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location: str, status: int = 302) -> bytes:
    return reply(b"elsewhere", status, location=location)


def certificate(folder: Path, name: str = NAME) -> tuple[Path, Path]:
    """A self-signed certificate for `name`, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    how = ["-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    of = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    command = [tool("openssl"), "req", *how, *of, "-out", str(cert), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key
