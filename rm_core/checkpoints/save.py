"""Model -> a folder in the released layout plus our manifest; other tools read it too."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rm_core.calibration import Calibration
from rm_core.checkpoints import manifest
from rm_core.checkpoints.processor import write_processor
from rm_core.checkpoints.tensors import SINGLE, VALUE_HEAD
from rm_core.encode import Encoder
from rm_core.golden import Golden
from rm_core.model import RewardModel

# Our module names -> the names transformers >= 4.52 writes for Qwen2.5-VL.
NAMES = {
    "backbone.language_model.": "model.language_model.",
    "backbone.visual.": "model.visual.",
    "head.up.": "v_head.mlp.up.",
    "head.down.": "v_head.mlp.down.",
    "head.": "v_head.summary.",
}


def save(
    folder: Path,
    model: RewardModel,
    encoder: Encoder,
    *,
    name: str,
    dtype: torch.dtype = torch.bfloat16,
    calibration: Calibration | None = None,
    golden: Golden | None = None,
    card: str | None = None,
    lineage: dict[str, Any] | None = None,
) -> None:
    """Write backbone (in `dtype`), head (float32), processor, golden rows, card and manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {_file_name(key): value for key, value in model.named_parameters()}
    head = {key: value for key, value in tensors.items() if key.startswith("v_head.")}
    backbone = {key: value for key, value in tensors.items() if key not in head}
    _write_tensors(folder / SINGLE, backbone, dtype)
    _write_tensors(folder / VALUE_HEAD, head, torch.float32)
    _write_config(folder, model, dtype)
    write_processor(folder, encoder.tokenizer, encoder.rules)
    if golden is not None:
        golden.write(folder)
    if card is not None:
        (folder / "README.md").write_text(card)
    files = [file.name for file in folder.iterdir() if file.name != manifest.FILE]
    manifest.Manifest(
        name=name,
        files=manifest.digests(folder, files),
        head=model.head_kind,
        calibration=calibration,
        lineage=lineage or {},
    ).write(folder)


def _file_name(name: str) -> str:
    for ours, theirs in NAMES.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise AssertionError(f"a parameter outside backbone and head: {name}")


def _write_tensors(file: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    plain = {name: t.detach().to("cpu", dtype).contiguous() for name, t in tensors.items()}
    save_file(plain, file, metadata={"format": "pt"})


def _write_config(folder: Path, model: RewardModel, dtype: torch.dtype) -> None:
    config = model.backbone.config.to_dict()
    config["architectures"] = ["Qwen2_5_VLForConditionalGeneration"]
    config["dtype"] = str(dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n")
