"""The same promises on a CUDA device; run by `make test-gpu`."""

from pathlib import Path

import pytest
import torch

from rm_core.scorer import Scorer
from tests.groups import all_groups

pytestmark = pytest.mark.gpu


def flat(scores: list[list[float]]) -> list[float]:
    return [score for group in scores for score in group]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_varlen_scores_stay_near_float32(random_checkpoint: Path, dtype: str) -> None:
    exact = Scorer.load(random_checkpoint, device="cpu").score(all_groups())
    fast = Scorer.load(random_checkpoint, device="cuda", dtype=dtype)
    assert fast.info.attention == "varlen"
    assert flat(fast.score(all_groups())) == pytest.approx(flat(exact), abs=0.1)


def test_sdpa_on_cuda_equals_cpu_in_float32(random_checkpoint: Path) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    exact = Scorer.load(random_checkpoint, device="cpu").score(all_groups())
    ours = Scorer.load(random_checkpoint, device="cuda", dtype="float32").score(all_groups())
    assert flat(ours) == pytest.approx(flat(exact), abs=1e-4)


def test_packed_equals_alone_in_bfloat16(random_checkpoint: Path) -> None:
    scorer = Scorer.load(random_checkpoint, device="cuda", dtype="bfloat16")
    alone = [scorer.score([group])[0] for group in all_groups()]
    assert flat(scorer.score(all_groups())) == pytest.approx(flat(alone), abs=0.05)
