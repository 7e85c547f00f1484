"""The card's steps behind Ray Serve, batched by `@serve.batch`."""

import sys
import threading
from pathlib import Path
from typing import Any

import ray
from ray import serve

from bench.peers.stock import Ask, StockScorer

ADDRESS = "127.0.0.1"


def deployment(folder: Path, threads: int, most: int) -> Any:
    # Its default of five requests at a time would keep every batch under five.
    @serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
    class Reward:
        def __init__(self) -> None:
            self.scorer = StockScorer(folder, threads)

        @serve.batch(max_batch_size=most, batch_wait_timeout_s=0.01)  # type: ignore[untyped-decorator]
        async def score(self, asks: list[Ask]) -> list[float]:
            return self.scorer.score(asks)

        async def __call__(self, request: Any) -> dict[str, float]:
            return {"score": await self.score(Ask.read(await request.json()))}

    bound: Any = Reward
    return bound.bind()


def main() -> None:
    folder, port, threads, most = Path(sys.argv[1]), *map(int, sys.argv[2:])
    ray.init(address="local", include_dashboard=False, num_cpus=threads, _node_ip_address=ADDRESS)
    serve.start(http_options={"host": ADDRESS, "port": port})
    serve.run(deployment(folder, threads, most), route_prefix="/score")
    threading.Event().wait()


if __name__ == "__main__":
    main()
