"""After the last stage: round, examine, calibrate, choose golden rows, write the checkpoint."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from rm_core.calibration import UNCALIBRATED, Calibration
from rm_core.checkpoints import Checkpoint, load
from rm_core.scorer import Scorer
from training import calibrate, card, evaluate, examine, export
from training.config import Recipe
from training.evaluate import Judged, Outcome
from training.lineage import Lineage
from training.runlog import RunLog

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Findings:
    """What the held-out rows say about a finished model."""

    outcomes: dict[str, Outcome]
    calibration: Calibration
    before: calibrate.Quality
    after: calibrate.Quality

    def to_json(self) -> dict[str, Any]:
        return {
            "accuracy": evaluate.summary(self.outcomes),
            "calibration": self.calibration.to_json(),
            "quality": {"before": asdict(self.before), "after": asdict(self.after)},
        }


def finish(chosen: Recipe, lineage: Lineage, last_stage: Path, folder: Path, log: RunLog) -> Path:
    """`last_stage` as the folder's `model`, with report.json and report.md beside it."""
    checkpoint = load(last_stage, device=torch.device("cpu"), dtype=torch.float32)
    dtype = DTYPES[chosen.output.dtype]
    export.round_weights(checkpoint, dtype)
    log.say("examining the rounded model on held-out rows")
    findings, known = _examine(chosen, checkpoint)
    golden = export.make_golden(
        checkpoint, export.choose_golden([j.row for j in known], chosen.output.golden_rows)
    )
    text = card.write(chosen, checkpoint.model, findings.outcomes, findings.after, lineage)
    content = export.Export(chosen.name, dtype, findings.calibration, golden, text, lineage)
    export.write(folder / "model", checkpoint, content)
    _report(folder, findings, log)
    return folder / "model"


def _examine(chosen: Recipe, checkpoint: Checkpoint) -> tuple[Findings, tuple[Judged, ...]]:
    asked, scorer = chosen.evaluation, Scorer(checkpoint)
    reported = examine.sets(asked.source, asked.rows_per_task, "report")
    outcomes = {name: evaluate.judge(scorer, rows) for name, rows in reported.items()}
    fitting = examine.calibration_rows(asked.source, asked.rows_per_task)
    judged = evaluate.judge(scorer, fitting).judged
    calibration = calibrate.fit_on(judged)
    first = next(iter(outcomes.values())).judged
    before, after = (calibrate.quality(c, first) for c in (UNCALIBRATED, calibration))
    return Findings(outcomes, calibration, before, after), judged


def _report(folder: Path, findings: Findings, log: RunLog) -> None:
    found = findings.to_json()
    table = evaluate.table(findings.outcomes)
    (folder / "report.json").write_text(json.dumps(found, indent=2) + "\n")
    (folder / "report.md").write_text(table + "\n")
    log.event("finished", **found)
    log.say(table)
