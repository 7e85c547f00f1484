"""Whether a peer gives the reference's scores, before anybody measures how fast."""

import asyncio
import statistics
from collections.abc import Mapping, Sequence

import httpx

from bench.peers.measure import Request, scores_of
from bench.peers.process import JSON, PeerProcess

# float32 on both sides; what is allowed is a small part of how far the scores lie apart.
TOLERANCE, LEAST_SPREAD = 1e-3, 0.5
AT_ONCE = 16

Scores = Mapping[str, Sequence[float]]


class Disagrees(Exception):
    """A peer's scores are not the reference's: what it does is not the same work."""


async def scores(running: PeerProcess, requests: Mapping[str, Sequence[Request]]) -> Scores:
    """Every request of every workload, several at once, so that batches are checked too."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(timeout=600, headers=JSON) as client:

        async def ask(body: bytes) -> list[float]:
            async with gate:
                return await scores_of(client, running, body)

        found = {}
        for name, of_one in requests.items():
            bodies = [body for request in of_one for body in request.bodies]
            answers = await asyncio.gather(*map(ask, bodies))
            found[name] = [score for answer in answers for score in answer]
    return found


def require_spread(reference: Scores) -> None:
    """Where all answers get one score, agreement shows nothing."""
    spread = statistics.stdev(score for of_one in reference.values() for score in of_one)
    if spread < LEAST_SPREAD:
        raise Disagrees(f"the reference's scores spread by {spread:.2g}; needed is {LEAST_SPREAD}")


def largest_difference(scores: Scores, reference: Scores) -> float:
    """Raises Disagrees, naming the workload, above the tolerance."""
    largest = 0.0
    for name, of_one in scores.items():
        pairs = zip(of_one, reference[name], strict=True)
        difference = max(abs(mine - theirs) for mine, theirs in pairs)
        if difference > TOLERANCE:
            raise Disagrees(
                f"scores differ by {difference:.2g} on {name}; allowed is {TOLERANCE:g}"
            )
        largest = max(largest, difference)
    return largest
