"""The side-by-side benchmark compares the same work, and its figures mean what they say."""

import asyncio
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bench.peers import agreement, environments, model
from bench.peers.arithmetic import decoder_weights, tower_weights, useful_flops
from bench.peers.measure import Done, Request, keep_busy, summary
from bench.peers.peers import PEERS, Place, requests_of
from bench.peers.process import PeerProcess
from bench.peers.run import free_port
from bench.peers.tree import Sample
from bench.peers.workloads import Item, standard_library_text
from rm_core.checkpoints.processor import read_tokenizer
from rm_core.model import RewardModel
from tests.checkpoints import byte_tokenizer, new_names, write_random_checkpoint

LISTS = sorted(environments.LISTS.glob("*.txt"))
SAMPLES = [Sample(float(at), 2.0 * at, 0.1 * at, 100.0 + at) for at in range(41)]


def photograph(seed: int, size: tuple[int, int]) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


ITEMS = [
    Item(photograph(0, (84, 112)), (84, 112), "What is this?", ("Noise.", "A very old cat.")),
    Item(photograph(1, (56, 56)), (56, 56), "And\nthis?", ("Noise again, I am afraid.",)),
    Item(None, (0, 0), "Say something long.", ("word " * 40,)),
]


def asked(name: str, place: Place) -> list[Request]:
    peer = PEERS[name]
    return [Request(requests_of(peer, item, place), len(item.answers), 1e9) for item in ITEMS]


def test_peers_agree_on_scores_and_are_measured(tmp_path: Path) -> None:
    checkpoint = write_random_checkpoint(tmp_path / "model", names=new_names)
    found, rows = {}, {}
    for name in ("card", "card8", "ours"):
        place = Place(checkpoint, checkpoint, free_port(), 1)
        with PeerProcess(PEERS[name], sys.executable, place, tmp_path / f"{name}.log") as running:
            found[name] = asyncio.run(agreement.scores(running, {"all": asked(name, place)}))
            requests = iter(asked(name, place) * 500)
            rows[name] = asyncio.run(keep_busy(running, requests, 4, 0.3, 1.5))
    for name in ("card8", "ours"):
        assert agreement.largest_difference(found[name], found["card"]) < 1e-5
    for row in rows.values():
        assert not row.errors
        assert row.answers > 0
        assert row.cpu_s > 0
        assert row.peak_mib > 50
    with pytest.raises(agreement.Disagrees, match="on all"):
        agreement.largest_difference(
            {"all": [s + 0.01 for s in found["card"]["all"]]}, found["card"]
        )


def test_a_reference_that_gives_everybody_one_score_is_refused() -> None:
    agreement.require_spread({"W1": [-1.0, 1.0]})
    with pytest.raises(agreement.Disagrees, match="spread"):
        agreement.require_spread({"W1": [1.0, 1.1], "W2": [1.2]})


def test_whole_batches_are_counted() -> None:
    """Eight answers every eight seconds are one a second wherever the window lies."""
    request = Request([b""], 1, 5e9)
    done = [
        Done(batch + lag / 1000, 8.0, request, None)
        for batch in range(8, 41, 8)
        for lag in range(8)
    ]
    for begin in (9.0, 11.0, 14.5):
        row = summary(done, SAMPLES, 0.0, begin, begin + 17)
        assert row.answers_per_s == pytest.approx(1, rel=0.01)
        assert row.gflops == pytest.approx(5, rel=0.01)
        assert row.cpu_s / row.answers == pytest.approx(2, rel=0.01)
        assert row.others == pytest.approx(0.1, rel=0.01)
        assert (row.p50_ms, row.p95_ms) == (8000, 8000)


def test_a_batch_longer_than_the_window_counts_when_it_is_done() -> None:
    done = [Done(30.0, 30.0, Request([b""], 1, 1e9), None)] * 15
    row = summary(done, SAMPLES, 0.0, 4.0, 19.0)
    assert (row.answers, row.answers_per_s) == (15, 0.5)


def test_a_peer_that_answers_nothing_has_no_figures_but_its_errors() -> None:
    row = summary([Done(3.0, 1.0, Request([b""], 1, 1e9), "gone")], SAMPLES, 0.0, 1.0, 10.0)
    assert (row.answers, row.p50_ms, row.cpu_per_answer_ms) == (0, None, None)
    assert row.errors == ("gone",)


def test_useful_arithmetic_is_that_of_the_model() -> None:
    config = model.config(byte_tokenizer())
    with torch.device("meta"):
        made = RewardModel(config, model.RULES)
    layers = made.backbone.language_model.layers.modules()
    weights = sum(m.weight.numel() for m in layers if isinstance(m, nn.Linear))
    assert decoder_weights(config.to_dict()["text_config"]) == weights
    blocks = made.backbone.visual.blocks.modules()
    products = sum(m.weight.numel() for m in blocks if isinstance(m, nn.Linear))
    products += made.backbone.visual.patch_embed.proj.weight.numel()
    merger = made.backbone.visual.merger.modules()
    merged = sum(m.weight.numel() for m in merger if isinstance(m, nn.Linear))
    assert tower_weights(config.to_dict()["vision_config"]) == products + merged / 4


def test_a_prompt_counts_once_however_many_answers(random_checkpoint: Path) -> None:
    tokenizer = read_tokenizer(random_checkpoint)
    config = model.config(tokenizer).to_dict()
    one = useful_flops(Item(None, (0, 0), "word " * 100, ("yes",)), config, tokenizer)
    eight = useful_flops(Item(None, (0, 0), "word " * 100, ("yes",) * 8), config, tokenizer)
    assert one < eight < 1.1 * one


@pytest.mark.parametrize("listed", LISTS, ids=lambda path: path.stem)
def test_every_package_of_a_peer_is_pinned_and_none_is_for_cuda(listed: Path) -> None:
    lines = listed.read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    environments.refuse_cuda(listed.read_text())
    with pytest.raises(environments.EnvironmentFailed, match="nvidia-nccl"):
        environments.refuse_cuda("nvidia-nccl-cu13==2.28\n")


def test_every_peer_with_packages_has_its_list() -> None:
    needed = {peer.environment for peer in PEERS.values()} - {None}
    assert needed | {"pictures"} == {path.stem for path in LISTS}


def test_the_text_is_enough_for_passages_that_differ() -> None:
    assert len(standard_library_text()) > 100_000
