"""A folder or hub id -> model, encoder and calibration, every tensor accounted for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import Qwen2_5_VLConfig
from transformers.initialization import no_init_weights

from rm_core import heads
from rm_core.calibration import Calibration
from rm_core.checkpoints import keymap, manifest
from rm_core.checkpoints.head import head_kind
from rm_core.checkpoints.processor import (
    PREPROCESSOR,
    PROCESSOR,
    TOKENIZER,
    check_template,
    read_pixel_rules,
    read_tokenizer,
)
from rm_core.checkpoints.source import resolve
from rm_core.checkpoints.tensors import VALUE_HEAD, TensorFiles, check_index, weight_files
from rm_core.encode import Encoder
from rm_core.errors import CheckpointError, CheckpointMismatch
from rm_core.heads import HeadKind
from rm_core.model import RewardModel


@dataclass(frozen=True, eq=False, slots=True)
class Checkpoint:
    """All that scoring needs, loaded."""

    model: RewardModel
    encoder: Encoder
    calibration: Calibration | None
    folder: Path
    name: str
    layout: str
    revision: str


def load(
    source: str | Path | None,
    *,
    device: torch.device,
    dtype: torch.dtype,
    max_pixels: int | None = None,
    fresh_head: HeadKind | None = None,
) -> Checkpoint:
    """Load a released, plain Hugging Face or own checkpoint; the head is kept in float32.

    `fresh_head` is for a base that has none yet: every answer then scores 0.
    Raises CheckpointError, naming the file or tensor, when anything is missing or left over.
    """
    folder = resolve(source)
    config = read_config(folder)
    check_template(folder)
    rules = read_pixel_rules(folder)
    if max_pixels is not None:
        rules = replace(rules, max_pixels=max_pixels)
    own = manifest.read(folder)
    files, names, layout = account(folder)
    head = head_kind(folder, names.values(), own, fresh_head)
    with no_init_weights(), _defaults(device, dtype):
        model = RewardModel(config, rules, head=head)
    _fill(model, files, names, folder.name, without_head=fresh_head is not None)
    if fresh_head is not None:
        heads.start(model.head)
    if dtype == torch.float64:
        model.double()  # the reference precision: the head follows
    return Checkpoint(
        model=model.eval().requires_grad_(False),
        encoder=Encoder(read_tokenizer(folder), rules),
        calibration=own.calibration if own else None,
        folder=folder,
        name=own.name if own else _public_name(source, folder),
        layout=layout,
        revision=manifest.revision(_scoring_digests(folder, own), rules, str(dtype)),
    )


def head_of(folder: Path) -> HeadKind:
    """The kind of head a local checkpoint has, without reading its weights."""
    return head_kind(folder, account(folder)[1].values(), None, None)


def _public_name(source: str | Path | None, folder: Path) -> str:
    """A hub id as it is; of a folder only the last part: a server shows this to every caller."""
    return folder.name if source is None or Path(source).is_dir() else str(source)


def read_config(folder: Path) -> Qwen2_5_VLConfig:
    if not (folder / "config.json").exists():
        raise CheckpointError(f"{folder}: no config.json; this is not a checkpoint folder")
    config = Qwen2_5_VLConfig.from_pretrained(folder)
    if "sliding_attention" in config.get_text_config().layer_types:
        raise CheckpointError(f"{folder}: sliding-window attention is not supported")
    return config


def account(folder: Path) -> tuple[TensorFiles, dict[str, str], str]:
    """The files, every tensor's name in our model, and which layout it was."""
    shards = weight_files(folder)
    own_head = folder / VALUE_HEAD
    if own_head.exists():
        files, layout = TensorFiles([*shards, own_head]), "released"
        renames: Mapping[str, str] = {**keymap.BACKBONE, **keymap.VALUE_HEAD}
    else:
        files, layout = TensorFiles(shards), "huggingface"
        renames = {**keymap.BACKBONE, **keymap.SCORE_HEAD}
        check_index(folder, files)
    return files, keymap.rename_all(files.names(), renames, folder.name), layout


def _fill(
    model: RewardModel,
    files: TensorFiles,
    names: dict[str, str],
    where: str,
    *,
    without_head: bool,
) -> None:
    targets = dict(model.named_parameters())
    if without_head:
        targets = {n: p for n, p in targets.items() if not n.startswith("head.")}
    keymap.require_exactly(names.values(), targets, where)
    with torch.no_grad():
        for name, tensor in files.read(list(names)):
            _copy(targets[names[name]], tensor, f"{where}: {name}")


def _copy(target: Tensor, tensor: Tensor, where: str) -> None:
    if target.shape != tensor.shape:
        raise CheckpointMismatch(
            f"{where} has shape {tuple(tensor.shape)} and config.json asks for "
            f"{tuple(target.shape)}"
        )
    target.copy_(tensor)


def _scoring_digests(folder: Path, own: manifest.Manifest | None) -> dict[str, str]:
    scoring = [file.name for file in weight_files(folder)]
    scoring += [
        n for n in (VALUE_HEAD, TOKENIZER, PREPROCESSOR, PROCESSOR) if (folder / n).exists()
    ]
    if own is not None:
        return {name: own.files[name] for name in scoring}
    return manifest.digests(folder, scoring)


@contextmanager
def _defaults(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """New modules come in `dtype` on `device`, so no second copy of the weights ever exists."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)
