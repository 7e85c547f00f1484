"""A checkpoint rewritten for vLLM: the same numbers under the names it loads, and one raw label."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rm_core import heads
from rm_core.checkpoints import load, save
from rm_core.checkpoints.export import export, vllm_config
from rm_core.errors import CheckpointError, CheckpointMismatch, UnknownName
from rm_core.model import hidden_size
from service import cli

INDEX, HEAD = "model.safetensors.index.json", "value_head.safetensors"


def tensors_of(folder: Path) -> dict[str, Tensor]:
    files = [load_file(file) for file in folder.glob("*.safetensors")]
    return {name: tensor for file in files for name, tensor in file.items()}


@pytest.fixture
def exported(random_checkpoint: Path, tmp_path: Path) -> Path:
    assert cli.main(["export", "--to", "vllm", str(random_checkpoint), str(tmp_path / "out")]) == 0
    return tmp_path / "out"


def test_every_weight_is_there_under_the_name_vllm_loads(
    exported: Path, random_checkpoint: Path
) -> None:
    model = load(random_checkpoint, device=torch.device("cpu"), dtype=torch.float32).model
    expected: dict[str, Tensor] = {
        f"model.{name}": tensor for name, tensor in model.backbone.named_parameters()
    }
    for name, tensor in model.head.named_parameters():
        expected[f"language_model.score.{name}"] = tensor
    written = tensors_of(exported)
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], expected[name]) for name in expected)


def test_the_index_names_the_file_of_every_tensor(exported: Path) -> None:
    weight_map = json.loads((exported / INDEX).read_text())["weight_map"]
    for file in exported.glob("*.safetensors"):
        named = {name for name, home in weight_map.items() if home == file.name}
        assert named == load_file(file).keys()
    assert weight_map.keys() == tensors_of(exported).keys()


def test_the_config_is_the_old_one_with_a_single_raw_label(
    exported: Path, random_checkpoint: Path
) -> None:
    old = json.loads((random_checkpoint / "config.json").read_text())
    new = json.loads((exported / "config.json").read_text())
    assert new == vllm_config(old)
    assert (new["num_labels"], new["problem_type"]) == (1, "regression")
    assert new["text_config"] == old["text_config"]


def test_tokenizer_processor_and_template_come_along_and_our_manifest_does_not(
    exported: Path, random_checkpoint: Path
) -> None:
    for name in ("tokenizer.json", "preprocessor_config.json", "chat_template.jinja"):
        assert (exported / name).read_bytes() == (random_checkpoint / name).read_bytes()
    assert not (exported / "vlrm.json").exists()
    assert not (exported / HEAD).exists()


def test_a_checkpoint_that_could_not_be_loaded_is_not_exported(
    random_checkpoint: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(random_checkpoint, tmp_path / "broken"))
    (broken / HEAD).unlink()
    with pytest.raises(CheckpointError, match="no reward head"):
        export(broken, "vllm", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_one_of_its_tensors_is_not_exported(
    random_checkpoint: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(random_checkpoint, tmp_path / "broken"))
    shard = broken / "model-00002-of-00002.safetensors"
    _dropped, *rest = load_file(shard)
    save_file({kept: load_file(shard)[kept] for kept in rest}, shard, metadata={"format": "pt"})
    with pytest.raises(CheckpointMismatch, match="1 missing"):
        export(broken, "vllm", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(
    random_checkpoint: Path, exported: Path
) -> None:
    with pytest.raises(CheckpointError, match="not empty"):
        export(random_checkpoint, "vllm", exported)


def test_an_unknown_target_is_refused_with_the_known_ones(
    random_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnknownName, match="'tgi'; available: vllm"):
        export(random_checkpoint, "tgi", tmp_path / "out")
    assert cli.main(["export", "--to", "tgi", str(random_checkpoint), str(tmp_path / "out")]) == 1
    assert "unknown export target 'tgi'" in capsys.readouterr().err


def test_a_head_of_two_layers_is_refused_by_name(random_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = load(random_checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    checkpoint.model.head = heads.make("mlp", hidden_size(checkpoint.model.backbone.config))
    source = tmp_path / "two-layers"
    save(source, checkpoint.model, checkpoint.encoder, name="two", dtype=torch.float32)
    with pytest.raises(CheckpointError, match="two layers"):
        export(source, "vllm", tmp_path / "out")
    assert not (tmp_path / "out").exists()
