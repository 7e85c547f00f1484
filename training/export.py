"""From a trained model to a checkpoint folder: rounded, examined, calibrated, proven equal."""

import copy
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Pillow

from rm_core.calibration import Calibration
from rm_core.checkpoints import Checkpoint, save
from rm_core.errors import CheckpointError
from rm_core.golden import Golden, GoldenRow
from rm_core.scorer import Scorer
from rm_core.types import Image, ImagePart, TextPart
from training.data.records import Preference

FLOAT32_TOLERANCE = 1e-3  # other processors and batch shapes move float32 scores by about 1e-5
HALF_TOLERANCE_FLOOR = 0.05
HALF_TOLERANCE_MARGIN = 3.0


@dataclass(frozen=True)
class Export:
    """What goes into the folder beside the weights."""

    name: str
    dtype: torch.dtype
    calibration: Calibration
    golden: Golden
    card: str
    lineage: dict[str, Any]


def round_weights(checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    """Make the model in memory the one that will be written; the head stays in float32."""
    with torch.no_grad():
        for parameter in checkpoint.model.backbone.parameters():
            parameter.copy_(parameter.to(dtype).to(parameter.dtype))


def write(folder: Path, checkpoint: Checkpoint, export: Export) -> Scorer:
    """Write beside, reload, compare scores, and only then take the folder's place."""
    beside = folder.with_name(folder.name + ".writing")
    shutil.rmtree(beside, ignore_errors=True)
    save(
        beside,
        checkpoint.model,
        checkpoint.encoder,
        name=export.name,
        dtype=export.dtype,
        calibration=export.calibration,
        golden=export.golden,
        card=export.card,
        lineage=export.lineage,
    )
    _require_equal(Scorer.load(beside, device="cpu", dtype="float32"), export.golden)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return Scorer.load(folder, device="cpu", dtype="float32")


def _require_equal(reloaded: Scorer, golden: Golden) -> None:
    check = reloaded.self_check()
    if check.rows != len(golden.rows) or not check.passed:
        raise CheckpointError(
            f"the written checkpoint scores differently by {check.max_difference:.2e} "
            f"(allowed {check.tolerance:.0e}); it was not put in place"
        )


def make_golden(checkpoint: Checkpoint, rows: Sequence[Preference]) -> Golden:
    """The rows with their float32 scores, and how far half precision strays on them."""
    scorer = Scorer(checkpoint)
    exact = [scorer.score([row.as_group()])[0] for row in rows]
    stray = _half_stray(checkpoint, rows, exact)
    half = max(HALF_TOLERANCE_FLOOR, HALF_TOLERANCE_MARGIN * stray)
    return Golden(
        rows=tuple(_golden_row(row, scores) for row, scores in zip(rows, exact, strict=True)),
        tolerance={
            "float64": FLOAT32_TOLERANCE,
            "float32": FLOAT32_TOLERANCE,
            "bfloat16": round(half, 3),
            "float16": round(half, 3),
        },
    )


def _half_stray(
    checkpoint: Checkpoint, rows: Sequence[Preference], exact: Sequence[Sequence[float]]
) -> float:
    """Largest difference that bfloat16 arithmetic makes on these rows."""
    copied = _copy_in(checkpoint, torch.bfloat16)
    scorer = Scorer(copied)
    rounded = [scorer.score([row.as_group()])[0] for row in rows]
    return max(
        abs(a - b)
        for mine, theirs in zip(rounded, exact, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )


def _copy_in(checkpoint: Checkpoint, dtype: torch.dtype) -> Checkpoint:
    model = copy.deepcopy(checkpoint.model)
    torch.nn.Module.to(model.backbone, dtype)
    return replace(checkpoint, model=model)


def choose_golden(rows: Sequence[Preference], count: int) -> list[Preference]:
    """A spread over tasks: every so many rows, only those a golden file can hold."""
    fitting = [row for row in rows if _is_one_question(row)]
    stride = max(1, len(fitting) // count)
    return fitting[::stride][:count]


def _is_one_question(row: Preference) -> bool:
    turns = row.conversation.turns
    *before, last = turns[0].parts
    pictured = all(isinstance(part, ImagePart) for part in before)
    return len(turns) == 1 and pictured and isinstance(last, TextPart)


def _golden_row(row: Preference, scores: Sequence[float]) -> GoldenRow:
    question = row.conversation.turns[-1].parts[-1]
    assert isinstance(question, TextPart)
    return GoldenRow(
        question=question.text,
        pictures=tuple(_png(image) for image in row.conversation.images),
        responses=row.as_group().responses,
        scores=tuple(scores),
    )


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(image.pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
