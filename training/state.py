"""What a run needs to go on as if it had never stopped: saved whole or not at all."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from rm_core.errors import CheckpointError

NEWEST, PREVIOUS = "state.pt", "state.previous.pt"


@dataclass(frozen=True)
class Progress:
    """Where a run stands: `step` optimiser steps of `stage` are done, under this recipe."""

    recipe: str
    stage: str
    step: int


def save(folder: Path, progress: Progress, model: nn.Module, optimizer: Optimizer) -> None:
    """Write beside, sync, then swap names: a kill at any moment leaves one whole file."""
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "state.writing"
    with written.open("wb") as file:
        torch.save(_collect(progress, model, optimizer), file)
        file.flush()
        os.fsync(file.fileno())
    newest = folder / NEWEST
    if newest.exists():
        os.replace(newest, folder / PREVIOUS)
    os.replace(written, newest)


def load(folder: Path, recipe: str, stage: str, model: nn.Module, optimizer: Optimizer) -> int:
    """Put the newest whole state into model and optimiser; returns the steps done (0: none)."""
    for name in (NEWEST, PREVIOUS):
        if (folder / name).exists() and (found := _read(folder / name)) is not None:
            return _restore(found, Progress(recipe, stage, found["step"]), model, optimizer)
    return 0


def clear(folder: Path) -> None:
    """A finished stage needs no state; the next one starts its own."""
    for name in (NEWEST, PREVIOUS):
        (folder / name).unlink(missing_ok=True)


def _collect(progress: Progress, model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    return {
        "recipe": progress.recipe,
        "stage": progress.stage,
        "step": progress.step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }


def _read(path: Path) -> dict[str, Any] | None:
    """A file cut short is not an error while an older whole one exists."""
    try:
        found: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, OSError):
        return None
    return found


def _restore(
    found: dict[str, Any], expected: Progress, model: nn.Module, optimizer: Optimizer
) -> int:
    if found["recipe"] != expected.recipe:
        raise CheckpointError(
            "the saved state belongs to another recipe; use another --output or the same recipe"
        )
    if found["stage"] != expected.stage:
        return 0
    model.load_state_dict(found["model"])
    optimizer.load_state_dict(found["optimizer"])
    torch.set_rng_state(found["random"])
    return int(found["step"])


class StopRequest:
    """Turns SIGTERM and SIGINT into a flag the loop reads between steps."""

    def __init__(self) -> None:
        self.wanted = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        for name in (signal.SIGTERM, signal.SIGINT):
            self._before[name] = signal.signal(name, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self.wanted = True
