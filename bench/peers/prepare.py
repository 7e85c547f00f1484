"""The checkpoint, in both layouts, and the requests: made once, before any clock runs."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers import model
from bench.peers.arithmetic import decoder_weights, useful_flops
from bench.peers.environments import python_of
from bench.peers.measure import Request
from bench.peers.peers import Peer, Place, requests_of
from bench.peers.workloads import WORKLOADS, Item, draw
from rm_core.checkpoints.export import export
from rm_core.checkpoints.processor import read_tokenizer

CHECKED = 4  # items of each workload whose scores are compared before measuring


@dataclass(frozen=True)
class Prepared:
    """What every peer gets; `place` still without its port."""

    place: Place
    items: Mapping[str, Sequence[Item]]
    flops: Mapping[str, Sequence[float]]


def prepare(envs: Path, workloads: Sequence[str], answers: int, threads: int) -> Prepared:
    """`answers` for each workload."""
    folder = write_models(envs / "model")
    tokenizer = read_tokenizer(folder)
    config = json.loads((folder / "config.json").read_text())
    photographs = next(python_of("pictures", envs).parent.parent.glob("lib/*/site-packages"))
    items = {
        name: draw(
            name,
            CHECKED + answers // WORKLOADS[name].answers,
            photographs / "skimage" / "data",
            tokenizer,
        )
        for name in workloads
    }
    flops = {n: [useful_flops(i, config, tokenizer) for i in of] for n, of in items.items()}
    return Prepared(Place(folder, folder.with_name("for-vllm"), 0, threads), items, flops)


def write_models(folder: Path) -> Path:
    """Written anew in every run: an old one would be another commit's."""
    for_vllm = folder.with_name("for-vllm")
    for old in (folder, for_vllm):
        shutil.rmtree(old, ignore_errors=True)
    model.write(folder)
    export(folder, "vllm", for_vllm)
    return folder


def requests(prepared: Prepared, peer: Peer, place: Place) -> dict[str, list[Request]]:
    """The same items in a peer's own words."""
    return {
        name: [
            Request(requests_of(peer, item, place), len(item.answers), flops)
            for item, flops in zip(of, prepared.flops[name], strict=True)
        ]
        for name, of in prepared.items.items()
    }


def describe(prepared: Prepared) -> str:
    """The checkpoint in words."""
    config = json.loads((prepared.place.model / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    size = (prepared.place.model / "model.safetensors").stat().st_size
    return (
        f"random weights of {size / 4e6:.0f} M parameters in float32 (decoder "
        f"{text['num_hidden_layers']} x {text['hidden_size']}, {decoder_weights(text) / 1e6:.0f} M "
        f"in products; tower {vision['depth']} x {vision['hidden_size']}; the real vocabulary)"
    )
