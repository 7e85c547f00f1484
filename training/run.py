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

from rm_core import attention
from rm_core.checkpoints import Checkpoint, load, save
from rm_core.errors import CheckpointError, InvalidInput
from training import finish, recipe, state, trainer
from training.config import FromCheckpoint, FromScratch, Recipe, Stage
from training.data.dataset import Order, Source, StageData, seed_for
from training.data.sources import open_source
from training.examine import QuickCheck
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
    sources = {stage.name: open_sources(chosen, stage) for stage in chosen.stages}
    run = Run(chosen, folder, log)
    if only is not None and not 0 <= only <= len(chosen.stages):
        raise InvalidInput(
            f"--stage {only}: the recipe has stages 0 (base) to {len(chosen.stages)}"
        )
    numbers = range(len(chosen.stages) + 1) if only is None else [only]
    with alone(folder), state.StopRequest() as stop:
        _adopt_folder(run)
        torch.manual_seed(chosen.seed)
        if chosen.threads is not None:
            torch.set_num_threads(chosen.threads)
        for number in numbers:
            if number == 0:
                _make_base(run)
            else:
                _make_stage(run, number, sources[chosen.stages[number - 1].name], stop)
        if numbers[-1] < len(chosen.stages):
            return run.stage(numbers[-1]) if numbers[-1] else run.base
        return finish.finish(chosen, run.digest, run.stage(numbers[-1]), folder, log)


def open_sources(chosen: Recipe, stage: Stage) -> tuple[Source, ...]:
    """Every source of a stage, so that what is missing is known before anything is computed."""
    return tuple(
        open_source(entry.source, seed_for(chosen.seed, stage.name, entry.source))
        for entry in stage.data
    )


def _make_base(run: Run) -> None:
    base = run.recipe.base
    if isinstance(base, FromScratch) and not run.base.exists():
        from training.base import build

        beside = run.base.with_name("base.writing")
        shutil.rmtree(beside, ignore_errors=True)
        build(base, run.recipe.seed, beside, run.log)
        beside.rename(run.base)


def _make_stage(
    run: Run, number: int, sources: tuple[Source, ...], stop: state.StopRequest
) -> None:
    stage, folder = run.recipe.stages[number - 1], run.stage(number)
    if folder.exists():
        run.log.say(f"{stage.name}: already made, {folder}")
        return
    checkpoint = open_for_training(run, parent_of(run, number))
    job = make_job(run, stage, sources, checkpoint)
    trainer.run(job, checkpoint.model, run.log, stop)
    write_stage(run, number, checkpoint)


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


def open_for_training(run: Run, source: str | Path) -> Checkpoint:
    device = run.recipe.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    checkpoint = load(source, device=torch.device(device), dtype=torch.float32)
    model = checkpoint.model
    model.attention = attention.choose("auto", model.device, model.dtype)
    return checkpoint


def make_job(
    run: Run, stage: Stage, sources: tuple[Source, ...], checkpoint: Checkpoint
) -> trainer.Job:
    chosen = run.recipe
    steps = count_steps(stage, sources)
    weights = [e.weight or float(s.size or 1) for e, s in zip(stage.data, sources, strict=True)]
    order = Order.draw(weights, steps * stage.batch, seed_for(chosen.seed, stage.name, "order"))
    return trainer.Job(
        stage=stage,
        steps=steps,
        data=StageData(sources, order, checkpoint.encoder, stage.batch, stage.max_tokens),
        workers=chosen.workers,
        output=chosen.output,
        recipe=run.digest,
        folder=run.folder / "state",
        evaluate_every=chosen.evaluation.every_steps,
        evaluate=QuickCheck(chosen.evaluation, checkpoint),
    )


def count_steps(stage: Stage, sources: tuple[Source, ...]) -> int:
    if stage.steps is not None:
        return stage.steps
    assert stage.epochs is not None
    sizes = [source.size for source in sources if source.size is not None]
    if len(sizes) != len(sources):
        raise InvalidInput(f"stage {stage.name}: a generated source has no end; give 'steps'")
    return max(1, round(stage.epochs * sum(sizes) / stage.batch))


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
