"""The loop of one stage: batches in, optimiser steps out, everything else handed in."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint

from rm_core.errors import RewardError
from rm_core.model import RewardModel
from rm_core.packing import pack
from training import optim, state
from training.config import Output, Stage
from training.data.dataset import Batch, Row, StageData, split_by_tokens
from training.data.prefetch import batches
from training.features import FrozenFeatures
from training.losses import loss_of, next_token, pair_up
from training.meter import Meter
from training.quarantine import FILE, Quarantine
from training.runlog import RunLog


class Interrupted(RewardError):
    """The run was asked to stop; its state is saved and the same command goes on from there."""

    code = "interrupted"


class TrainingFailed(RewardError):
    """The numbers or the data went bad; going on would waste the machine."""

    code = "training_failed"


@dataclass(frozen=True)
class Job:
    """One stage to run: what, on which data, how long, and where its state is kept."""

    stage: Stage
    steps: int
    data: StageData
    workers: int
    output: Output
    recipe: str
    folder: Path
    evaluate_every: int
    evaluate: Callable[[RewardModel], Mapping[str, float]]


@dataclass
class Loop:
    """The moving parts of a running stage."""

    job: Job
    model: RewardModel
    optimizer: Optimizer
    plan: optim.Plan
    log: RunLog
    features: FrozenFeatures
    quarantine: Quarantine
    meter: Meter = field(default_factory=Meter)
    rows: int = 0
    refused: int = 0
    saved_at: float = field(default_factory=time.monotonic)


def run(job: Job, model: RewardModel, log: RunLog, stop: state.StopRequest) -> None:
    """Train `model` in place through the whole stage, from its saved state where there is one."""
    plan = optim.Plan(job.stage, job.steps)
    loop = Loop(
        job,
        model,
        optim.make_optimizer(model, plan),
        plan,
        log,
        FrozenFeatures.over(job.data.sources),
        Quarantine(log.folder),
    )
    start = state.load(job.folder, job.recipe, job.stage.name, model, loop.optimizer)
    log.event("stage_start", stage=job.stage.name, step=start, steps=job.steps)
    log.say(f"{job.stage.name}: step {start} of {job.steps}, {job.stage.batch} groups a step")
    model.train()
    if job.stage.checkpointing:
        _compute_twice(model)
    with closing(batches(job.data, start, job.steps, job.workers)) as prepared:
        for batch in loop.meter.waiting_for(prepared):
            _refuse(loop, batch)
            step(loop, batch)
            _housekeeping(loop, batch.step + 1, stop)
    model.eval()
    state.clear(job.folder)


def _compute_twice(model: RewardModel) -> None:
    """Keep each decoder layer's input alone; the name of transformers' own switch varies."""
    again = partial(checkpoint, use_reentrant=False)
    for layer in model.backbone.language_model.layers:
        layer.gradient_checkpointing, layer._gradient_checkpointing_func = True, again


def step(loop: Loop, batch: Batch) -> None:
    """One optimiser step; the packs of a step add up to the mean over its groups exactly."""
    optim.set_step(loop.model, loop.optimizer, loop.plan, batch.step)
    loop.features.follow(loop.model)
    loop.optimizer.zero_grad(set_to_none=True)
    for rows in split_by_tokens(batch.rows, loop.job.stage.pack_tokens):
        _forward_backward(loop, rows, total=len(batch.rows))
    norm = optim.clip(loop.optimizer, loop.job.stage.max_grad_norm)
    if not math.isfinite(norm):
        raise TrainingFailed(f"step {batch.step}: gradient norm {norm}; lower the learning rate")
    loop.optimizer.step()
    loop.meter.count_step(norm)


def _forward_backward(loop: Loop, rows: Sequence[Row], total: int) -> None:
    groups = [row.encoded for row in rows]
    model = loop.model
    packed = pack(groups, model.image_pad_id, model.rules.merge_size).to(model.device)
    hidden_TD = model.hidden(packed, loop.features.of(model, packed))
    strengths = [strength for row in rows for strength in row.strengths]
    pairs = pair_up(model.score(hidden_TD, packed), packed.group_sizes, strengths)
    loss_P = loss_of(pairs, loop.job.stage.loss)
    loss = torch.dot(loss_P, pairs.weight_P) / total
    if loop.job.stage.language_weight:
        language = next_token(model, hidden_TD, packed)
        loss = loss + loop.job.stage.language_weight * language * (len(rows) / total)
        loop.meter.count_language(language.item(), len(rows))
    torch.autograd.backward(loss)
    loop.meter.count(rows, pairs, loss_P)


def _refuse(loop: Loop, batch: Batch) -> None:
    """Name every refused row in the log; too many of them mean the data is not as it should be."""
    for row in batch.refused:
        loop.log.event("refused", row=row.id, reason=row.reason)
    if batch.refused:
        names = [entry.source for entry in loop.job.stage.data]
        loop.quarantine.add(loop.job.stage.name, names, batch.refused)
    loop.refused += len(batch.refused)
    loop.rows += len(batch.refused) + len(batch.rows)
    if not batch.rows or (
        loop.rows >= 100 and loop.refused > loop.job.stage.max_refused * loop.rows
    ):
        raise TrainingFailed(
            f"{loop.refused} of {loop.rows} rows refused, more than max_refused "
            f"{loop.job.stage.max_refused}; the reasons are in {FILE}"
        )


def _housekeeping(loop: Loop, done: int, stop: state.StopRequest) -> None:
    """What happens between steps: report, evaluate, save, and leave when asked to."""
    job, last = loop.job, done == loop.job.steps
    if last or done % job.output.log_every_steps == 0:
        loop.meter.report(loop.log, job.stage.name, done, job.steps, _rates(loop))
    if not last and done % job.evaluate_every == 0:
        _evaluate(loop, done)
    if stop.wanted or time.monotonic() - loop.saved_at > 60 * job.output.save_every_minutes:
        progress = state.Progress(job.recipe, job.stage.name, done)
        state.save(job.folder, progress, loop.model, loop.optimizer)
        loop.saved_at = time.monotonic()
    if stop.wanted:
        raise Interrupted(f"stopped after step {done} of {job.stage.name}; its state is saved")


def _rates(loop: Loop) -> float:
    return max(float(group["lr"]) for group in loop.optimizer.param_groups)


def _evaluate(loop: Loop, done: int) -> None:
    loop.model.eval()
    found = loop.job.evaluate(loop.model)
    loop.model.train()
    loop.log.event("evaluation", stage=loop.job.stage.name, step=done, **found)
    shown = "  ".join(f"{name} {value:.3f}" for name, value in found.items())
    loop.log.say(f"{loop.job.stage.name} step {done}: held out  {shown}")
