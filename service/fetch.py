"""Pictures by URL: every hop judged, all pictures of a request at once, bytes and time bounded."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

import httpcore

from rm_core.errors import RewardError
from service.dial import NETWORK_ERRORS, Internet, get
from service.errors import DeadlinePassed, FetchFailed, FetchTooLarge, FetchTooSlow, UrlNotAllowed
from service.metrics import Metrics
from service.netguard import Address
from service.settings import Settings
from service.weburl import Refused, Target

MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(slots=True)
class Allowance:
    """What all pictures of one request may still cost together."""

    max_bytes: int
    timeout_s: float
    deadline: float  # the caller's, on the loop's clock as `until` is
    until: float
    bytes: int = 0

    @classmethod
    def of(cls, settings: Settings, deadline: float) -> "Allowance":
        until = asyncio.get_running_loop().time() + settings.media_timeout_s
        return cls(
            settings.media_max_bytes, settings.media_timeout_s, deadline, min(until, deadline)
        )

    def must_hold(self, count: int) -> None:
        if self.bytes + count > self.max_bytes:
            raise FetchTooLarge(
                f"the pictures behind URLs are larger than {self.max_bytes} bytes together; "
                "send smaller ones"
            )

    def passed(self) -> RewardError:
        """Whose patience ended first."""
        if self.until == self.deadline:
            return DeadlinePassed("X-Deadline-Ms passed while pictures were fetched")
        return FetchTooSlow(f"the picture did not arrive within {self.timeout_s:g} seconds")


class Fetcher:
    """Fetches what the settings allow; nothing is kept from one fetch to the next."""

    def __init__(self, settings: Settings, metrics: Metrics, internet: Internet) -> None:
        self._settings, self._metrics, self._internet = settings, metrics, internet
        self._policy = settings.media_policy
        self._slots = asyncio.Semaphore(settings.media_max_fetches)

    async def fetch(
        self, fields: Mapping[str, str], deadline: float = math.inf
    ) -> dict[str, bytes]:
        """The picture behind each URL of a request; the first failure ends the other fetches.

        `fields` says for each URL where the request has it; `deadline` is on the loop's clock.
        """
        allowance = Allowance.of(self._settings, deadline)
        try:
            async with asyncio.TaskGroup() as group:
                fetches = {
                    url: group.create_task(self._counted(url, field, allowance))
                    for url, field in fields.items()
                }
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return {url: fetch.result() for url, fetch in fetches.items()}

    async def _counted(self, url: str, field: str, allowance: Allowance) -> bytes:
        result = "cancelled"
        try:
            data = await self._in_time(url, allowance)
            result = "ok"
        except RewardError as error:
            result, error.field = error.code, field
            raise
        finally:
            self._metrics.media_fetches.labels(result).inc()
        return data

    async def _in_time(self, url: str, allowance: Allowance) -> bytes:
        """The bytes behind `url`, or an error that names no address and no status."""
        try:
            async with asyncio.timeout_at(allowance.until), self._slots:
                return await self._follow(self._policy.target(url), allowance)
        except Refused as refused:
            raise UrlNotAllowed(str(refused)) from None
        except TimeoutError:
            raise allowance.passed() from None
        except NETWORK_ERRORS:
            raise _failed() from None

    async def _follow(self, target: Target, allowance: Allowance) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            addresses = await self._addresses(target)
            async with get(target, addresses, self._internet) as response:
                if response.status not in REDIRECTS:
                    return await self._read(response, allowance)
                location = _header(response, b"location")
            if not location:
                raise _failed()
            target = self._policy.redirected(target, location)
        raise _failed()

    async def _addresses(self, target: Target) -> list[Address]:
        """Looked up once for each hop; what is checked here is what is dialled."""
        if target.literal is not None:
            return [target.literal]
        found = await self._internet.resolve(target.host, target.port)
        addresses = [ip_address(text) for text in found]
        self._policy.check(addresses)
        return addresses

    async def _read(self, response: httpcore.Response, allowance: Allowance) -> bytes:
        """The whole body, refused by its declared length when possible, else while it arrives."""
        encoding = _header(response, b"content-encoding")
        if response.status != 200 or encoding.lower() not in ("", "identity"):
            raise _failed()
        declared = _header(response, b"content-length")
        allowance.must_hold(int(declared) if declared.isdecimal() else 0)
        chunks = []
        async for chunk in response.aiter_stream():
            self._metrics.media_fetch_bytes.inc(len(chunk))
            allowance.must_hold(len(chunk))
            allowance.bytes += len(chunk)
            chunks.append(chunk)
        return b"".join(chunks)


def _header(response: httpcore.Response, name: bytes) -> str:
    """Its value; "" without one, and of several something that is none of them."""
    values = [value for key, value in response.headers if key.lower() == name]
    return b", ".join(values).decode(errors="replace")


def _failed() -> FetchFailed:
    return FetchFailed(
        "the picture could not be fetched from its URL; see that it opens without a login, or "
        "send the picture itself as a data: URL"
    )
