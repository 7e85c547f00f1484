"""How many groups a stage sees and how large one is: from its data, or as the caller assumes."""

from dataclasses import dataclass
from pathlib import Path

from rm_core.encode import EncodedGroup, Encoder
from rm_core.errors import InvalidInput
from training.config import Recipe, Stage
from training.data.dataset import Source, StageData
from training.data.folder import INDEX
from training.data.sources import is_builtin
from training.jobs import count_steps, draw_order, open_sources
from training.planner.memory import GroupShape

SAMPLE = 64


@dataclass(frozen=True)
class Assumed:
    """Used instead of what the data says; needed where data or tokenizer are not at hand."""

    rows: int | None = None
    tokens: float | None = None
    patches: float | None = None


@dataclass(frozen=True)
class Load:
    """A stage's optimiser steps and its typical group."""

    steps: int
    shape: GroupShape


def load_of(chosen: Recipe, stage: Stage, encoder: Encoder | None, assumed: Assumed) -> Load:
    sources = _sources(chosen, stage)
    steps = _steps(stage, sources, assumed)
    if assumed.tokens is not None and assumed.patches is not None:
        return Load(steps, _assumed(assumed.tokens, assumed.patches))
    if encoder is None or not sources:
        raise InvalidInput(
            f"stage {stage.name}: its data and a tokenizer must be here to measure its groups; "
            "give --tokens and --patches of a typical group (prompt and all its answers)"
        )
    return Load(steps, _measure(chosen, stage, sources, encoder))


def _assumed(tokens: float, patches: float) -> GroupShape:
    """A pair whose prompt is nearly all of it, which is the dearest case."""
    return GroupShape(tokens, tokens, patches, answers=2)


def _sources(chosen: Recipe, stage: Stage) -> tuple[Source, ...]:
    """None of them while one is not here yet: a plan may come before the data."""
    named = [entry.source for entry in stage.data]
    if all(is_builtin(name) or (Path(name) / INDEX).is_file() for name in named):
        return open_sources(chosen, stage)
    return ()


def _steps(stage: Stage, sources: tuple[Source, ...], assumed: Assumed) -> int:
    if stage.epochs is not None and assumed.rows is not None:
        return max(1, round(stage.epochs * assumed.rows / stage.batch))
    if stage.steps is None and not sources:
        raise InvalidInput(f"stage {stage.name}: its data is not here; give --rows of an epoch")
    return count_steps(stage, sources)


def _measure(
    chosen: Recipe, stage: Stage, sources: tuple[Source, ...], encoder: Encoder
) -> GroupShape:
    """Means over the first groups of the stage, in its own order."""
    order = draw_order(chosen, stage, sources, SAMPLE)
    groups = [
        row.encoded
        for row in StageData(sources, order, encoder, SAMPLE, stage.max_tokens, True)
        .prepare(0)
        .rows
    ]
    if not groups:
        raise InvalidInput(f"stage {stage.name}: not one of its first {SAMPLE} rows can be used")
    return GroupShape(
        tokens=_mean([group.num_tokens for group in groups]),
        prompt=_mean([len(group.prefix_ids_P) for group in groups]),
        patches=_mean([_patches(group) for group in groups]),
        answers=_mean([len(group.answer_ids) for group in groups]),
    )


def _patches(group: EncodedGroup) -> int:
    return sum(len(image.patches) for image in group.images)


def _mean(values: list[int]) -> float:
    return sum(values) / len(values)
