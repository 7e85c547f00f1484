"""Connections for many calls at once."""

from typing import Any

import httpx

# httpx looks at every pair of connections of a pool for each request, so that 32 in one pool cost
# more than the request itself.
SIZE = 8


class Pools:
    """At least `connections` kept connections, in several small pools."""

    def __init__(self, base_url: str, headers: dict[str, str], connections: int) -> None:
        limits = httpx.Limits(
            max_connections=SIZE, max_keepalive_connections=SIZE, keepalive_expiry=30
        )
        trusted = httpx.create_ssl_context()  # slow to make, so made once for all
        self._pools = [
            httpx.AsyncClient(base_url=base_url, headers=headers, limits=limits, verify=trusted)
            for _ in range(-(-connections // SIZE))
        ]
        self._busy = [0] * len(self._pools)

    async def request(self, method: str, route: str, **request: Any) -> httpx.Response:
        """Over the pool with the fewest requests under way."""
        number = self._busy.index(min(self._busy))
        self._busy[number] += 1
        try:
            return await self._pools[number].request(method, route, **request)
        finally:
            self._busy[number] -= 1

    async def aclose(self) -> None:
        for pool in self._pools:
            await pool.aclose()
