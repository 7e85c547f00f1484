"""A recipe's plan on a named card, and the sentence that refuses one that cannot fit."""

import math
import re
from dataclasses import dataclass

from transformers import Qwen2_5_VLConfig

from rm_core.errors import InvalidInput
from training.config import Part, Recipe, Stage
from training.planner.geometry import count_adapters, count_parameters, origin_of
from training.planner.measure import Assumed, Load, load_of
from training.planner.memory import (
    Counts,
    Memory,
    activation_bytes,
    memory_of,
    trained_parts,
)
from training.planner.work import flops_of_group

GIB = 1 << 30
LEAN = "'checkpointing: true'"
KEPT_FREE = 0.05  # of the card, for its context, workspaces and fragments; an assumption


class DoesNotFit(InvalidInput):
    """The recipe needs more memory than the card has; the message names what to change."""

    code = "does_not_fit"


@dataclass(frozen=True)
class Card:
    """Memory, and how fast it is used: the peak of float32 and the share of it that is reached."""

    gib: float
    tflops: float
    mfu: float

    @classmethod
    def parse(cls, text: str, tflops: float, mfu: float) -> "Card":
        """`1x80`: one card of 80 GiB."""
        found = re.fullmatch(r"(\d+)x(\d+(?:\.\d+)?)", text)
        if found is None:
            raise InvalidInput(f"--gpus looks like 1x80 (cards x GiB of one), not {text!r}")
        if int(found[1]) != 1:
            raise InvalidInput(f"--gpus {text}: training runs on one card; plan for 1x{found[2]}")
        return cls(float(found[2]), tflops, mfu)

    @property
    def room(self) -> float:
        return self.gib * GIB * (1 - KEPT_FREE)


@dataclass(frozen=True)
class StagePlan:
    """What one stage takes."""

    stage: Stage
    load: Load
    memory: Memory
    activations: dict[bool, float]  # bytes per token, without and with checkpointing
    forward_tokens: float
    flops: float
    seconds: float

    @property
    def tokens(self) -> float:
        return self.load.steps * self.stage.batch * self.load.shape.tokens


@dataclass(frozen=True)
class Plan:
    """Parameters by part, and the stages in order. A base made from nothing is not planned."""

    recipe: Recipe
    card: Card
    parameters: dict[Part, int]
    stages: tuple[StagePlan, ...]

    def require_fit(self) -> None:
        for stage in self.stages:
            if stage.memory.total > self.card.room:
                raise DoesNotFit(f"stage {stage.stage.name} {_remedy(stage, self.card)}")


def make_plan(chosen: Recipe, card: Card, assumed: Assumed) -> Plan:
    origin = origin_of(chosen.base, chosen.seed)
    counts = count_parameters(origin.config, origin.head)
    loads = [load_of(chosen, stage, origin.encoder, assumed) for stage in chosen.stages]
    stages = [
        _plan_stage(stage, load, origin.config, counts, card)
        for stage, load in zip(chosen.stages, loads, strict=True)
    ]
    return Plan(chosen, card, counts, tuple(stages))


def _plan_stage(
    stage: Stage, load: Load, config: Qwen2_5_VLConfig, counts: Counts, card: Card
) -> StagePlan:
    shape, adapters = load.shape, count_adapters(config, stage.lora)
    tokens = max(shape.tokens, min(stage.pack_tokens or math.inf, stage.batch * shape.tokens))
    of_group = flops_of_group(stage, config, counts, adapters, shape)
    flops = load.steps * stage.batch * of_group
    either = {lean: stage.model_copy(update={"checkpointing": lean}) for lean in (False, True)}
    return StagePlan(
        stage=stage,
        load=load,
        memory=memory_of(stage, config, counts, adapters, shape, tokens),
        activations={lean: activation_bytes(s, config, shape) for lean, s in either.items()},
        forward_tokens=tokens,
        flops=flops,
        seconds=flops / (card.tflops * 1e12 * card.mfu),
    )


def _remedy(plan: StagePlan, card: Card) -> str:
    """What is too large, and the change that would make it fit."""
    memory, room = plan.memory, card.room
    needs = f"needs {memory.total / GIB:.1f} GiB of {room / GIB:.1f} usable"
    if memory.weights > room:
        return f"{needs}: the weights alone take {memory.weights / GIB:.1f}; take a larger card"
    if memory.fixed > room:
        return f"{needs}: {_too_much_state(plan)}"
    return f"{needs}: {_too_many_tokens(plan, room)}"


def _too_much_state(plan: StagePlan) -> str:
    trained = ", ".join(sorted(trained_parts(plan.stage)))
    adapters = "" if plan.stage.lora else "use 'lora', "
    return (
        f"weights, gradients and moments alone take {plan.memory.fixed / GIB:.1f} GiB while "
        f"{trained} train; {adapters}list more parts under 'frozen' or take a card of "
        f"{math.ceil(plan.memory.fixed / GIB / (1 - KEPT_FREE))} GiB"
    )


def _too_many_tokens(plan: StagePlan, room: float) -> str:
    left = room - plan.memory.fixed
    fitting = {lean: int(left / each) for lean, each in plan.activations.items()}
    ways = [
        f"'pack_tokens: {fitting[lean]}'{' with ' + LEAN if lean else ''}"
        for lean in ([True] if plan.stage.checkpointing else [False, True])
        if fitting[lean] >= plan.load.shape.tokens
    ]
    if ways:
        return f"set {' or '.join(ways)}"
    return (
        f"even one group of {plan.load.shape.tokens:.0f} tokens does not fit; use a smaller "
        "picture budget, shorter rows or a larger card"
    )
