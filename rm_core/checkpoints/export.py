"""A checkpoint rewritten for another server: other tensor names, another config.json."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rm_core.checkpoints import manifest
from rm_core.checkpoints.head import head_kind
from rm_core.checkpoints.keymap import require_exactly
from rm_core.checkpoints.load import account, read_config
from rm_core.checkpoints.processor import check_template, read_pixel_rules
from rm_core.checkpoints.source import resolve
from rm_core.checkpoints.tensors import INDEX, TensorFiles
from rm_core.errors import CheckpointError, UnknownName
from rm_core.golden import FILE as GOLDEN
from rm_core.model import RewardModel

# vLLM reads Qwen2.5-VL by transformers' names and looks for a classifier's head inside the
# language model, not beside it.
VLLM_NAMES: Mapping[str, str] = {
    "backbone.language_model.": "model.language_model.",
    "backbone.visual.": "model.visual.",
    "head.": "language_model.score.",
}
# One label; "regression" is what tells vLLM to send the number as it is, not its sigmoid.
VLLM_CONFIG: Mapping[str, Any] = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "num_labels": 1,
    "id2label": {"0": "reward"},
    "label2id": {"reward": 0},
    "problem_type": "regression",
}
# Every target with the command that serves what was written.
HINTS: Mapping[str, str] = {
    "vllm": "Serve it with: vllm serve {folder} --runner pooling --convert classify",
}
BESIDE = ("*.json", "*.jinja", "*.txt")
REWRITTEN = ("config.json", INDEX, manifest.FILE, GOLDEN)


def export(source: str | Path, target: str, folder: Path) -> None:
    """Write the checkpoint `source` into a new `folder` as `target` reads it; numbers unchanged.

    Raises UnknownName for a target that does not exist and CheckpointError when the source
    cannot be loaded completely or the folder already holds something.
    """
    if target not in HINTS:
        raise UnknownName("export target", target, list(HINTS))
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder} is not empty; name a new folder for the export")
    opened = resolve(source)
    files, ours = _complete(opened)
    config = vllm_config(json.loads((opened / "config.json").read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    _write_tensors(folder, files, vllm_names(ours))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    _copy_beside(opened, folder)


def vllm_names(ours: Mapping[str, str]) -> dict[str, str]:
    """File name of a tensor -> the name vLLM loads it by, from file name -> our name."""
    return {name: _renamed(our_name) for name, our_name in ours.items()}


def vllm_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of a classifier with one label and no activation."""
    return {**config, **VLLM_CONFIG}


def _complete(opened: Path) -> tuple[TensorFiles, dict[str, str]]:
    """The tensors and our names of them, with the checks that loading makes."""
    check_template(opened)
    files, ours, _ = account(opened)
    kind = head_kind(opened, ours.values(), manifest.read(opened), None)
    if kind == "mlp":
        raise CheckpointError(
            f"{opened.name} has a head of two layers; vLLM's classifier has one linear layer"
        )
    with torch.device("meta"):
        model = RewardModel(read_config(opened), read_pixel_rules(opened), head=kind)
    require_exactly(ours.values(), dict(model.named_parameters()), opened.name)
    return files, ours


def _renamed(name: str) -> str:
    (prefix,) = [prefix for prefix in VLLM_NAMES if name.startswith(prefix)]
    return VLLM_NAMES[prefix] + name.removeprefix(prefix)


def _write_tensors(folder: Path, files: TensorFiles, names: Mapping[str, str]) -> None:
    """One file for each of the source's, so that memory holds one at a time, and an index."""
    homes: dict[str, str] = {}
    for number, group in enumerate(files.by_file(names), 1):
        file = f"model-{number:05}.safetensors"
        tensors = {names[name]: tensor for name, tensor in files.read(group)}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        homes |= dict.fromkeys(tensors, file)
    index = {"metadata": {}, "weight_map": dict(sorted(homes.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _copy_beside(opened: Path, folder: Path) -> None:
    """Tokenizer, preprocessor and template as they are; our own manifest stays behind."""
    for pattern in BESIDE:
        for file in opened.glob(pattern):
            if file.name not in REWRITTEN:
                shutil.copyfile(file, folder / file.name)
