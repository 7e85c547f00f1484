"""One running server per test, on the small random checkpoint."""

from collections.abc import AsyncIterator

import pytest_asyncio

from rm_core.scorer import Scorer
from tests.service.serving import Running, serving


@pytest_asyncio.fixture
async def server(random_scorer: Scorer) -> AsyncIterator[Running]:
    async with serving(random_scorer) as running:
        yield running
