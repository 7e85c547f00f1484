"""Who is compared: how each is started, asked and read."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.peers.workloads import Item

HERE = Path(__file__).parent
BATCH = 8
TCMALLOC = Path("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4")


@dataclass(frozen=True)
class Place:
    """What a peer's command needs to know."""

    model: Path
    for_vllm: Path
    port: int
    threads: int


@dataclass(frozen=True)
class Peer:
    title: str
    package: str | None
    environment: str | None
    command: Callable[[str, Place], list[str]]
    path: str
    bodies: Callable[[Item, Place], list[dict[str, Any]]]
    read: Callable[[Any], list[float]]
    variables: Callable[[str], dict[str, str]] = field(default=lambda _: {})


def _ours(python: str, place: Place) -> list[str]:
    flags = ["--model", str(place.model), "--dtype", "float32", "--device", "cpu"]
    flags += ["--port", str(place.port), "--threads", str(place.threads)]
    return [python, "-m", "service.cli", "serve", *flags, "--log-level", "warning"]


def _written(module: str, batch: int) -> Callable[[str, Place], list[str]]:
    def command(python: str, place: Place) -> list[str]:
        numbers = map(str, (place.port, place.threads, batch))
        return [python, "-m", f"bench.peers.servers.{module}", str(place.model), *numbers]

    return command


def _vllm(python: str, place: Place) -> list[str]:
    flags = ["--model", str(place.for_vllm), "--runner", "pooling", "--convert", "classify"]
    flags += ["--dtype", "float32", "--host", "127.0.0.1", "--port", str(place.port)]
    flags += ["--max-model-len", "4096", "--limit-mm-per-prompt", '{"image": 1, "video": 0}']
    return [
        python,
        "-m",
        "vllm.entrypoints.openai.api_server",
        *flags,
        "--uvicorn-log-level",
        "error",
    ]


def _vllm_variables(python: str) -> dict[str, str]:
    """Its CPU page asks for these two libraries; the first comes with its packages."""
    preload = [Path(python).parent.parent / "lib" / "libiomp5.so", TCMALLOC]
    return {
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_NO_USAGE_STATS": "1",
        "LD_PRELOAD": ":".join(str(file) for file in preload if file.exists()),
        "PYTHONPATH": f"{HERE / 'servers' / 'vllm_site'}",
    }


def _group(item: Item, _: Place) -> list[dict[str, Any]]:
    images = [] if item.picture is None else [data_url(item.picture)]
    return [{"prompt": item.question, "images": images, "responses": list(item.answers)}]


def _one_by_one(item: Item, _: Place) -> list[dict[str, Any]]:
    picture = None if item.picture is None else base64.b64encode(item.picture).decode()
    return [{"picture": picture, "question": item.question, "answer": a} for a in item.answers]


def _chats(item: Item, place: Place) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = [{"type": "text", "text": item.question}]
    if item.picture is not None:
        content.insert(0, {"type": "image_url", "image_url": {"url": data_url(item.picture)}})
    user = {"role": "user", "content": content}
    return [
        {"model": str(place.for_vllm), "messages": [user, {"role": "assistant", "content": answer}]}
        for answer in item.answers
    ]


def data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _scores(answer: Any) -> list[float]:
    return [row["score"] for row in answer["scores"]]


def _score(answer: Any) -> list[float]:
    return [answer["score"]]


def _probs(answer: Any) -> list[float]:
    return [float(answer["data"][0]["probs"][0])]


def _stock(title: str, module: str, batch: int, environment: str | None = None) -> Peer:
    package = environment and {"ray": "ray", "litserve": "litserve"}[environment]
    command = _written(module, batch)
    return Peer(title, package, environment, command, "/score", _one_by_one, _score)


PEERS: dict[str, Peer] = {
    "card": _stock("transformers, one by one", "card", 1),
    "ours": Peer("vlrm serve", None, None, _ours, "/score", _group, _scores),
    "vllm": Peer(
        "vLLM classify", "vllm-cpu", "vllm", _vllm, "/classify", _chats, _probs, _vllm_variables
    ),
    "card8": _stock(f"transformers, padded batches of {BATCH}", "card", BATCH),
    "litserve": _stock(f"LitServe, padded batches of {BATCH}", "lit", BATCH, "litserve"),
    "ray": _stock(f"Ray Serve, padded batches of {BATCH}", "ray_serve", BATCH, "ray"),
}
REFERENCE = "card"


def requests_of(peer: Peer, item: Item, place: Place) -> Sequence[bytes]:
    return [json.dumps(body).encode() for body in peer.bodies(item, place)]


def interpreter(peer: Peer, python_of: Callable[[str], Path]) -> str:
    return str(python_of(peer.environment)) if peer.environment else sys.executable


def version_of(peer: Peer, python: str) -> str:
    """As the peer's environment has it; of what runs in ours, transformers'."""
    package = peer.package or "transformers"
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return f"{package} {done.stdout.strip()}"
