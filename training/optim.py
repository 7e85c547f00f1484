"""AdamW over the parts of the model, the learning-rate curve, and when a frozen part thaws."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from rm_core.model import RewardModel
from training import lora
from training.config import Part, Schedule, Stage


def parts(model: RewardModel) -> dict[Part, list[tuple[str, nn.Parameter]]]:
    """Every parameter under exactly one part; the projector is the tower's patch merger."""
    found: dict[Part, list[tuple[str, nn.Parameter]]] = {
        "vision": [], "projector": [], "language": [], "head": []
    }  # fmt: skip
    for name, parameter in model.named_parameters():
        found[part_of(name)].append((name, parameter))
    return found


def part_of(name: str) -> Part:
    """The part a parameter name belongs to; an unknown name is our mistake, not a fifth part."""
    for prefix, part in PREFIXES:
        if name.startswith(prefix):
            return part
    raise AssertionError(f"parameter {name!r} belongs to no known part")


PREFIXES: tuple[tuple[str, Part], ...] = (
    ("backbone.visual.merger.", "projector"),
    ("backbone.visual.", "vision"),
    ("backbone.language_model.", "language"),
    ("head.", "head"),
)


def learning_rate(step: int, steps: int, stage: Stage) -> float:
    """The rate of optimiser step `step` (from 0) of `steps`: linear warm-up, then the schedule."""
    warmup = math.ceil(stage.warmup * steps)
    if step < warmup:
        return stage.learning_rate * (step + 1) / warmup
    through = (step - warmup) / max(1, steps - warmup)
    floor = stage.final_learning_rate
    return stage.learning_rate * (floor + (1 - floor) * _shape(stage.schedule, through))


def _shape(schedule: Schedule, through: float) -> float:
    """From 1 at the start to 0 at the end (`constant` stays at 1)."""
    if schedule == "cosine":
        return (1 + math.cos(math.pi * through)) / 2
    return 1 - through if schedule == "linear" else 1.0


@dataclass(frozen=True)
class Plan:
    """Which parts train at a step and how fast."""

    stage: Stage
    steps: int

    def trains(self, part: Part, step: int) -> bool:
        if part not in self.stage.frozen:
            return True
        thaw = self.stage.unfreeze_after.get(part)
        return thaw is not None and step >= thaw * self.steps

    def adapts(self, name: str) -> bool:
        """Whether a parameter moves when its part trains: of an adapted decoder only adapters."""
        adapted = self.stage.lora is not None and part_of(name) == "language"
        return not adapted or lora.MARK in name

    def rate(self, part: Part, step: int) -> float:
        scale = self.stage.learning_rate_scale.get(part, 1.0)
        return scale * learning_rate(step, self.steps, self.stage)


def make_optimizer(model: RewardModel, plan: Plan) -> Optimizer:
    """AdamW with two groups a part: matrices decay, norms, biases and the like do not.

    A frozen part has no groups until it thaws; `set_step` then finds them waiting at rate zero.
    """
    groups = [group for part, named in parts(model).items() for group in _groups(part, named, plan)]
    # On CUDA the fused update works in place; the other one needs a copy of all that is trained.
    fused = model.device.type == "cuda"
    return AdamW(
        groups,
        lr=plan.stage.learning_rate,
        betas=plan.stage.betas,
        foreach=not fused,
        fused=fused,
    )


def _groups(
    part: Part, named: list[tuple[str, nn.Parameter]], plan: Plan
) -> Iterator[dict[str, object]]:
    if part in plan.stage.frozen and part not in plan.stage.unfreeze_after:
        return
    moving = [p for name, p in named if plan.adapts(name)]
    decaying = [p for p in moving if p.ndim >= 2]
    plain = [p for p in moving if p.ndim < 2]
    for parameters, decay in ((decaying, plan.stage.weight_decay), (plain, 0.0)):
        if parameters:
            yield {"params": parameters, "part": part, "weight_decay": decay}


def set_step(model: RewardModel, optimizer: Optimizer, plan: Plan, step: int) -> None:
    """Make model and optimiser ready for `step`: who needs gradients, and each group's rate."""
    for part, named in parts(model).items():
        for name, parameter in named:
            parameter.requires_grad_(plan.trains(part, step) and plan.adapts(name))
    for group in optimizer.param_groups:
        group["lr"] = plan.rate(group["part"], step) if plan.trains(group["part"], step) else 0.0


def clip(optimizer: Optimizer, max_norm: float) -> float:
    """Clip the gradients of all groups together; returns the norm before, finite or not."""
    trained = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return float(torch.nn.utils.clip_grad_norm_(trained, max_norm))
