"""Safetensors files as one mapping of lazily read tensors; a broken file is named."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from rm_core.errors import CheckpointError, CheckpointMismatch

SINGLE, INDEX, VALUE_HEAD = (
    "model.safetensors",
    "model.safetensors.index.json",
    "value_head.safetensors",
)


def weight_files(folder: Path) -> list[Path]:
    """The shards of the backbone: one file, or all that the index names."""
    if (folder / INDEX).exists():
        index = json.loads((folder / INDEX).read_text())
        files = [folder / name for name in sorted(set(index["weight_map"].values()))]
    else:
        files = [folder / SINGLE]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise CheckpointError(
            f"{folder}: missing {', '.join(missing)}; download the checkpoint again. "
            "Only safetensors files are read, never pickled ones."
        )
    return files


class TensorFiles:
    """Names and tensors of several safetensors files."""

    def __init__(self, files: list[Path]) -> None:
        self._home: dict[str, Path] = {}
        for file in files:
            for name in _open(file).keys():  # noqa: SIM118 - the handle is not iterable
                if name in self._home:
                    raise CheckpointMismatch(f"{file.name} repeats a tensor", extra=[name])
                self._home[name] = file

    def names(self) -> list[str]:
        return list(self._home)

    def by_file(self, names: Collection[str]) -> list[list[str]]:
        """The names, those of one file together."""
        files = sorted({self._home[name] for name in names})
        return [[name for name in names if self._home[name] == file] for file in files]

    def read(self, names: list[str]) -> Iterator[tuple[str, Tensor]]:
        """Tensors one at a time, file by file: memory holds one beside the model."""
        for together in self.by_file(names):
            with _open(self._home[together[0]]) as handle:
                for name in together:
                    yield name, handle.get_tensor(name)


def check_index(folder: Path, files: TensorFiles) -> None:
    """The index and the shards must tell the same story."""
    if not (folder / INDEX).exists():
        return
    listed = set(json.loads((folder / INDEX).read_text())["weight_map"])
    present = set(files.names())
    if listed != present:
        raise CheckpointMismatch(
            f"{folder.name}: the shards differ from {INDEX}",
            missing=sorted(listed - present),
            extra=sorted(present - listed),
        )


def _open(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file.name} is not a whole safetensors file ({error}); download it again"
        ) from error
