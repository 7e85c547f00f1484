"""Which held-out rows a checkpoint is examined on, for which purpose."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from rm_core.checkpoints import Checkpoint
from rm_core.model import RewardModel
from rm_core.scorer import Scorer
from training.config import Evaluation
from training.data import heldout
from training.data.folder import FolderSource
from training.data.records import Preference
from training.data.sources import builtin_tasks, is_builtin
from training.data.tasks import KNOWN
from training.evaluate import judge

# Fixed, not the recipe's: two recipes are compared on the same rows. Rows that fit the calibration
# or choose golden examples are not the rows that are reported.
SEEDS = {"report": 0, "quick": 2}
CALIBRATION_SEED = 1
Purpose = Literal["report", "quick"]


def sets(source: str, rows_per_task: int, purpose: Purpose) -> dict[str, list[Preference]]:
    """Set name -> rows: the built-in examination, or a pairs folder beside its grey control."""
    if is_builtin(source):
        return heldout.examination(rows_per_task, SEEDS[purpose], builtin_tasks(source))
    rows = _folder_rows(source)
    return {"pairs": rows, **heldout.grey_control(rows)}


def calibration_rows(source: str, rows_per_task: int) -> list[Preference]:
    """Rows for the calibration and the golden examples: drawings of vendors the model knows."""
    if is_builtin(source):
        tasks = builtin_tasks(source)
        return heldout.held_out_rows(rows_per_task, CALIBRATION_SEED, KNOWN, tasks)
    return _folder_rows(source)


def _folder_rows(source: str) -> list[Preference]:
    folder = FolderSource.open(Path(source))
    return [folder.row(index) for index in range(folder.size)]


@dataclass
class QuickCheck:
    """The few rows looked at while training; made once, at the first look."""

    evaluation: Evaluation
    checkpoint: Checkpoint

    def __call__(self, model: RewardModel) -> dict[str, float]:
        """Mean over tasks for each set."""
        scorer = Scorer(replace(self.checkpoint, model=model))
        outcomes = {name: judge(scorer, rows) for name, rows in self._sets.items()}
        return {name: outcome.mean() for name, outcome in outcomes.items()}

    @cached_property
    def _sets(self) -> dict[str, list[Preference]]:
        return sets(self.evaluation.source, self.evaluation.quick_rows_per_task, "quick")
