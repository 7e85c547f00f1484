"""A whole run: base, stages in order, then examination and export; each step's result is a folder.

OUTPUT/recipe.json metrics.jsonl state/ base/ stages/<number>-<name>/ model/ report.json report.md
A finished folder is not made again, so the same command goes on where the last one stopped.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from rm_core.checkpoints import Checkpoint, save
from rm_core.errors import CheckpointError, InvalidInput
from training import finish, lora, recipe, state, trainer
from training.config import FromCheckpoint, FromScratch, Recipe
from training.data.dataset import Source, seed_for
from training.jobs import count_steps, make_job, open_for_training, open_sources
from training.lineage import lineage_of
from training.runlog import RunLog


@dataclass(frozen=True)
class Run:
    """Where a recipe's results go and how it reports."""

    recipe: Recipe
    folder: Path
    log: RunLog

    @property
    def digest(self) -> str:
        return recipe.digest(self.recipe)

    @property
    def base(self) -> Path:
        return self.folder / "base"

    def stage(self, number: int) -> Path:
        """The folder of stage `number`, counted from 1."""
        return self.folder / "stages" / f"{number}-{self.recipe.stages[number - 1].name}"


def train(chosen: Recipe, folder: Path, only: int | None, log: RunLog) -> Path:
    """Make everything that is missing (or just stage `only`); returns the last folder made."""
    # What is missing or endless in the last stage is refused before the first one computes.
    sources = {stage.name: open_sources(chosen, stage) for stage in chosen.stages}
    for stage in chosen.stages:
        count_steps(stage, sources[stage.name])
    run, lineage = Run(chosen, folder, log), lineage_of(chosen)
    if only is not None and not 0 <= only <= len(chosen.stages):
        raise InvalidInput(
            f"--stage {only}: the recipe has stages 0 (base) to {len(chosen.stages)}"
        )
    numbers = range(len(chosen.stages) + 1) if only is None else [only]
    with alone(folder):
        _adopt_folder(run)
        torch.manual_seed(chosen.seed)
        if chosen.threads is not None:
            torch.set_num_threads(chosen.threads)
        for number in numbers:
            if number == 0:
                _make_base(run)
            else:
                _make_stage(run, number, sources[chosen.stages[number - 1].name])
        if numbers[-1] < len(chosen.stages):
            return run.stage(numbers[-1]) if numbers[-1] else run.base
        return finish.finish(chosen, lineage, run.stage(numbers[-1]), folder, log)


def _make_base(run: Run) -> None:
    base = run.recipe.base
    if isinstance(base, FromScratch) and not run.base.exists():
        from training.base import build

        beside = run.base.with_name("base.writing")
        shutil.rmtree(beside, ignore_errors=True)
        build(base, run.recipe.seed, beside, run.log)
        beside.rename(run.base)


def _make_stage(run: Run, number: int, sources: tuple[Source, ...]) -> None:
    stage, folder = run.recipe.stages[number - 1], run.stage(number)
    if folder.exists():
        run.log.say(f"{stage.name}: already made, {folder}")
        return
    checkpoint = _open_parent(run, number)
    job = make_job(run.recipe, stage, sources, checkpoint, run.folder / "state")
    if stage.lora is not None:
        lora.attach(checkpoint.model, stage.lora, seed_for(run.recipe.seed, stage.name, "lora"))
    with state.StopRequest() as stop:
        trainer.run(job, checkpoint.model, run.log, stop)
    lora.merge(checkpoint.model)
    write_stage(run, number, checkpoint)


def _open_parent(run: Run, number: int) -> Checkpoint:
    """The first stage may give its base a head and a pixel budget; later ones find them there."""
    parent, base = parent_of(run, number), run.recipe.base
    if number == 1 and isinstance(base, FromCheckpoint):
        return open_for_training(parent, run.recipe.device, base.head, base.max_pixels)
    return open_for_training(parent, run.recipe.device)


def parent_of(run: Run, number: int) -> str | Path:
    """What stage `number` starts from."""
    if number > 1:
        parent: str | Path = run.stage(number - 1)
    elif isinstance(run.recipe.base, FromCheckpoint):
        return run.recipe.base.source
    else:
        parent = run.base
    if not Path(parent).exists():
        raise CheckpointError(f"stage {number} starts from {parent}, which is not made yet")
    return parent


def write_stage(run: Run, number: int, checkpoint: Checkpoint) -> None:
    """A stage's result in full precision, under its name only once it is whole."""
    folder = run.stage(number)
    beside = folder.with_name(folder.name + ".writing")
    shutil.rmtree(beside, ignore_errors=True)
    name = f"{run.recipe.name}/{folder.name}"
    lineage = {"recipe": run.digest, "parent": checkpoint.revision}
    save(
        beside,
        checkpoint.model,
        checkpoint.encoder,
        name=name,
        dtype=torch.float32,
        lineage=lineage,
    )
    beside.rename(folder)
    run.log.say(f"{folder.name}: written to {folder}")


def _adopt_folder(run: Run) -> None:
    """A folder belongs to one recipe; another one's results are never mixed in."""
    file = run.folder / "recipe.json"
    if file.exists() and (owner := json.loads(file.read_text())["digest"]) != run.digest:
        raise CheckpointError(
            f"{run.folder} holds a run of another recipe ({owner[:12]}, this one is "
            f"{run.digest[:12]}); choose another --output"
        )
    content = {"digest": run.digest, "recipe": run.recipe.model_dump(mode="json")}
    file.write_text(json.dumps(content, indent=2) + "\n")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Two runs in one folder would overwrite each other: the second is refused."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(f"another run is at work in {folder}") from error
        yield
