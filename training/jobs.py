"""From a recipe's stage to a job the trainer can run."""

from pathlib import Path

import torch

from rm_core import attention
from rm_core.checkpoints import Checkpoint, load
from rm_core.errors import InvalidInput
from rm_core.heads import HeadKind
from training import recipe, trainer
from training.config import Recipe, Stage
from training.data.dataset import Order, Source, StageData, seed_for
from training.data.sources import open_source
from training.examine import QuickCheck
from training.loss_kinds import Ties


def open_sources(chosen: Recipe, stage: Stage) -> tuple[Source, ...]:
    """Every source of a stage, so that what is missing is known before anything is computed."""
    return tuple(
        open_source(entry.source, seed_for(chosen.seed, stage.name, entry.source))
        for entry in stage.data
    )


def open_for_training(
    source: str | Path,
    device: str,
    fresh_head: HeadKind | None = None,
    max_pixels: int | None = None,
) -> Checkpoint:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    checkpoint = load(
        source,
        device=torch.device(device),
        dtype=torch.float32,
        max_pixels=max_pixels,
        fresh_head=fresh_head,
    )
    model = checkpoint.model
    model.attention = attention.choose("auto", model.device, model.dtype)
    return checkpoint


def make_job(
    chosen: Recipe, stage: Stage, sources: tuple[Source, ...], checkpoint: Checkpoint, folder: Path
) -> trainer.Job:
    """The stage's steps in their fixed order; `folder` keeps its state while it runs."""
    steps = count_steps(stage, sources)
    order = draw_order(chosen, stage, sources, steps * stage.batch)
    return trainer.Job(
        stage=stage,
        steps=steps,
        data=StageData(
            sources,
            order,
            checkpoint.encoder,
            stage.batch,
            stage.max_tokens,
            takes_ties=isinstance(stage.loss, Ties),
        ),
        workers=chosen.workers,
        output=chosen.output,
        recipe=recipe.digest(chosen),
        folder=folder,
        evaluate_every=chosen.evaluation.every_steps,
        evaluate=QuickCheck(chosen.evaluation, checkpoint),
    )


def draw_order(chosen: Recipe, stage: Stage, sources: tuple[Source, ...], total: int) -> Order:
    """Which source and row stands at each of the stage's `total` places."""
    weights = [e.weight or float(s.size or 1) for e, s in zip(stage.data, sources, strict=True)]
    return Order.draw(weights, total, seed_for(chosen.seed, stage.name, "order"))


def count_steps(stage: Stage, sources: tuple[Source, ...]) -> int:
    if stage.steps is not None:
        return stage.steps
    assert stage.epochs is not None
    sizes = [source.size for source in sources if source.size is not None]
    if len(sizes) != len(sources):
        raise InvalidInput(f"stage {stage.name}: a generated source has no end; give 'steps'")
    return max(1, round(stage.epochs * sum(sizes) / stage.batch))
