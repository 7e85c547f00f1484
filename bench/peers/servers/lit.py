"""The card's steps behind LitServe, batched as its documentation shows."""

import sys
from pathlib import Path
from typing import Any

import litserve

from bench.peers.stock import Ask, StockScorer


class Api(litserve.LitAPI):  # type: ignore[misc]
    def __init__(self, folder: Path, threads: int, most: int) -> None:
        super().__init__(max_batch_size=most, batch_timeout=0.01, api_path="/score")
        self.folder, self.threads = folder, threads

    def setup(self, device: str) -> None:  # noqa: ARG002 - its name for it
        self.scorer = StockScorer(self.folder, self.threads)

    def decode_request(self, request: dict[str, Any]) -> Ask:
        return Ask.read(request)

    def predict(self, asks: list[Ask]) -> list[float]:
        return self.scorer.score(asks)

    def encode_response(self, output: float) -> dict[str, float]:
        return {"score": output}


def main() -> None:
    folder, port, threads, most = Path(sys.argv[1]), *map(int, sys.argv[2:])
    api = Api(folder, threads, most)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, timeout=False)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
