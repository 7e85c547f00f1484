"""Shared fixtures: real checkpoints made small, and no way out to a network."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRMSNorm

from bench import qwen_tokenizer
from rm_core.scorer import Scorer
from tests.checkpoints import write_random_checkpoint

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(autouse=True, scope="session")
def _single_thread() -> None:
    # Two cores shared with servers under test: more threads only fight each other.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in LOOPBACK:
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def norm_in_own_precision(self: Qwen2_5_VLRMSNorm, hidden: Tensor) -> Tensor:
    variance = hidden.pow(2).mean(-1, keepdim=True)
    return self.weight * hidden * torch.rsqrt(variance + self.variance_epsilon)


@pytest.fixture(scope="module")
def whole_float64() -> Iterator[None]:
    """The stock norm computes in float32 whatever it is given; a float64 check would see that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Qwen2_5_VLRMSNorm, "forward", norm_in_own_precision)
        yield


@pytest.fixture(scope="session")
def real_tokenizer(pytestconfig: pytest.Config) -> Tokenizer:
    cached = Path(str(pytestconfig.cache.mkdir("qwen"))) / "tokenizer.json"
    return qwen_tokenizer.build(cached)


@pytest.fixture(scope="session")
def released_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, real_tokenizer: Tokenizer
) -> Path:
    """Released layout with the real vocabulary and random weights."""
    folder = tmp_path_factory.mktemp("released") / "model"
    return write_random_checkpoint(folder, tokenizer=real_tokenizer)


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a byte-level vocabulary: small and quick to load."""
    return write_random_checkpoint(tmp_path_factory.mktemp("random") / "model")


@pytest.fixture(scope="session")
def random_scorer(random_checkpoint: Path) -> Scorer:
    return Scorer.load(random_checkpoint, device="cpu")
