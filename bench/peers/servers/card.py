"""The card's steps behind a small server: a queue, one worker, batches of up to N, no timer."""

import json
import queue
import sys
import threading
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.peers.stock import Ask, StockScorer

Waiting = queue.Queue[tuple[Ask, "Future[float]"]]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, waiting: Waiting) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.waiting = waiting


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer: Future[float] = Future()
        self.server.waiting.put((Ask.read(body), answer))
        data = json.dumps({"score": answer.result()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Silent: a line for each request would be measured too."""


def take(waiting: Waiting, most: int) -> list[tuple[Ask, "Future[float]"]]:
    """At least one, and what has come meanwhile up to `most`."""
    taken = [waiting.get()]
    while len(taken) < most and not waiting.empty():
        taken.append(waiting.get())
    return taken


def work(scorer: StockScorer, waiting: Waiting, most: int) -> None:
    while True:
        taken = take(waiting, most)
        scores = scorer.score([ask for ask, _ in taken])
        for (_, answer), score in zip(taken, scores, strict=True):
            answer.set_result(score)


def main() -> None:
    folder, port, threads, most = Path(sys.argv[1]), *map(int, sys.argv[2:])
    waiting: Waiting = queue.Queue()
    server = Server(port, waiting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    work(StockScorer(folder, threads), waiting, most)


if __name__ == "__main__":
    main()
