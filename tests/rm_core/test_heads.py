"""Every kind of head is written, read back and told apart; a fresh one starts at zero."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rm_core import heads
from rm_core.checkpoints import Checkpoint, load, save
from rm_core.errors import CheckpointError, UnknownName
from rm_core.heads import HeadKind
from rm_core.scorer import Scorer
from tests.groups import all_groups

CPU, F32 = torch.device("cpu"), torch.float32
HEAD = "value_head.safetensors"


@pytest.fixture
def headless(random_checkpoint: Path, tmp_path: Path) -> Path:
    """A plain Qwen2.5-VL as the hub has it: with its vocabulary head and no reward head."""
    folder = Path(shutil.copytree(random_checkpoint, tmp_path / "headless"))
    (folder / HEAD).unlink()
    return folder


def opened(headless: Path, kind: HeadKind) -> Checkpoint:
    return load(headless, device=CPU, dtype=F32, fresh_head=kind)


def written(headless: Path, kind: HeadKind, folder: Path) -> Checkpoint:
    """A checkpoint of ours with a head of this kind that tells answers apart."""
    checkpoint = opened(headless, kind)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in checkpoint.model.head.parameters():
            parameter.normal_(0.0, 0.2)
    save(folder, checkpoint.model, checkpoint.encoder, name="own", dtype=F32)
    return checkpoint


@pytest.mark.parametrize("kind", heads.KINDS)
def test_a_fresh_head_scores_every_answer_zero(headless: Path, kind: HeadKind) -> None:
    scores = Scorer(opened(headless, kind)).score(all_groups())
    assert {score for group in scores for score in group} == {0.0}


@pytest.mark.parametrize("kind", heads.KINDS)
def test_a_fresh_heads_last_layer_has_a_gradient_at_once(headless: Path, kind: HeadKind) -> None:
    model = opened(headless, kind).model
    features_ND = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    head = model.head.requires_grad_(True)
    score_N = head(features_ND).squeeze(-1)
    loss = -torch.nn.functional.logsigmoid(score_N[0] - score_N[1:]).mean()
    assert loss.item() == pytest.approx(math.log(2))
    torch.autograd.backward(loss)
    last = head.down if isinstance(head, heads.MlpHead) else head
    gradient = last.get_parameter("weight").grad
    assert gradient is not None
    assert gradient.abs().max() > 1e-3


@pytest.mark.parametrize("kind", heads.KINDS)
def test_saved_and_loaded_again_is_the_same_head(
    headless: Path, kind: HeadKind, tmp_path: Path
) -> None:
    before = Scorer(written(headless, kind, tmp_path / "own"))
    after = Scorer.load(tmp_path / "own", device="cpu", dtype="float32")
    assert before.info.head == after.info.head == kind
    assert after.score(all_groups()) == before.score(all_groups())
    assert len({score for group in after.score(all_groups()) for score in group}) > 2
    assert json.loads((tmp_path / "own" / "vlrm.json").read_text())["head"] == kind


def test_the_two_layer_head_is_its_formula(headless: Path, tmp_path: Path) -> None:
    head = written(headless, "mlp", tmp_path / "own").model.head
    stored = load_file(tmp_path / "own" / HEAD)
    x_ND = torch.randn(3, 64)
    up_ND = x_ND @ stored["v_head.mlp.up.weight"].T + stored["v_head.mlp.up.bias"]
    gated_ND = up_ND * torch.sigmoid(up_ND)
    expected = gated_ND @ stored["v_head.mlp.down.weight"].T + stored["v_head.mlp.down.bias"]
    torch.testing.assert_close(head(x_ND), expected)


def test_a_manifest_that_names_another_head_is_refused(headless: Path, tmp_path: Path) -> None:
    written(headless, "linear", tmp_path / "own")
    file = tmp_path / "own" / "vlrm.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "head": "mlp"}))
    with pytest.raises(CheckpointError, match=r"says the head is 'mlp', .* holds 'linear'"):
        load(tmp_path / "own", device=CPU, dtype=F32)


def test_a_manifest_from_before_there_was_a_choice_still_opens(
    headless: Path, tmp_path: Path
) -> None:
    written(headless, "linear+bias", tmp_path / "own")
    file = tmp_path / "own" / "vlrm.json"
    content = json.loads(file.read_text())
    del content["head"]
    file.write_text(json.dumps(content))
    assert load(tmp_path / "own", device=CPU, dtype=F32).model.head_kind == "linear+bias"


def test_half_a_two_layer_head_is_refused_by_name(headless: Path) -> None:
    tensors = {"v_head.mlp.up.weight": torch.zeros(64, 64), "v_head.mlp.up.bias": torch.zeros(64)}
    save_file(tensors, headless / HEAD)
    with pytest.raises(CheckpointError, match=r"head\.down\.bias, head\.down\.weight"):
        load(headless, device=CPU, dtype=F32)


def test_a_base_with_a_head_gets_no_second_one(random_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has a reward head already \(linear\+bias\)"):
        load(random_checkpoint, device=CPU, dtype=F32, fresh_head="mlp")


def test_a_base_without_a_head_asks_for_one(headless: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no reward head .*base\.head"):
        load(headless, device=CPU, dtype=F32)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"linear, linear\+bias, mlp"):
        heads.make("deep", 8)
