"""One request to one place: exactly the addresses that were checked are dialled."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import httpcore
import httpx

from service.netguard import Address
from service.weburl import Target

# An address that does not answer must leave time for the name's next one.
CONNECT_S = 3.0
MAX_DIALLED = 4
# What goes wrong on the way, none of it our fault.
NETWORK_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    OSError,
)
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a name, in the order the system would dial them; OSError when none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@dataclass(frozen=True, slots=True)
class Internet:
    """Everything beyond this server that a fetch touches; tests bring a small one."""

    resolve: Resolve = resolve
    network: httpcore.AsyncNetworkBackend = field(default_factory=httpcore.AnyIOBackend)
    # The usual authorities, or those of SSL_CERT_FILE.
    tls: ssl.SSLContext = field(default_factory=httpx.create_ssl_context)


class Pinned(httpcore.AsyncNetworkBackend):
    """Dials the addresses it was given instead of asking again where a name leads."""

    def __init__(self, addresses: Sequence[Address], network: httpcore.AsyncNetworkBackend) -> None:
        self._addresses, self._network = addresses[:MAX_DIALLED], network
        self._stream: httpcore.AsyncNetworkStream | None = None

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (httpcore's signature)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in self._addresses:
            try:
                self._stream = await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except NETWORK_ERRORS as error:
                failure = error
            else:
                return self._stream
        raise failure

    async def aclose(self) -> None:
        """httpcore forgets a connection that is given up in the middle of its TLS handshake."""
        if self._stream is not None:
            await self._stream.aclose()


@asynccontextmanager
async def get(
    target: Target, addresses: Sequence[Address], internet: Internet
) -> AsyncIterator[httpcore.Response]:
    """The answer of `target`, its body unread; raises NETWORK_ERRORS.

    The name stays in the Host header, in SNI and in the check of the certificate. No pool, no
    proxy, no cookies, no credentials: this connection is closed and nothing of it is kept.
    """
    url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
    headers = [
        ("Host", target.authority),
        ("User-Agent", "vlrm"),
        ("Accept", "image/png, image/jpeg, image/webp"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]
    async with (
        aclosing(Pinned(addresses, internet.network)) as pinned,
        httpcore.AsyncHTTPConnection(
            url.origin, internet.tls, network_backend=pinned
        ) as connection,
        connection.stream(
            "GET", url, headers=headers, extensions={"timeout": {"connect": CONNECT_S}}
        ) as response,
    ):
        yield response
