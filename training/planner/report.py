"""A plan as text and as JSON."""

from typing import Any

from training.planner.memory import trained_parts
from training.planner.plan import GIB, KEPT_FREE, Plan, StagePlan
from training.runlog import duration


def as_json(plan: Plan) -> dict[str, Any]:
    return {
        "recipe": plan.recipe.name,
        "parameters": {**plan.parameters, "all": sum(plan.parameters.values())},
        "card": {"gib": plan.card.gib, "tflops": plan.card.tflops, "mfu": plan.card.mfu},
        "usable_gib": plan.card.room / GIB,
        "stages": [_stage_json(stage) for stage in plan.stages],
        "fits": all(stage.memory.total <= plan.card.room for stage in plan.stages),
    }


def _stage_json(plan: StagePlan) -> dict[str, Any]:
    memory, shape = plan.memory, plan.load.shape
    return {
        "name": plan.stage.name,
        "trained": sorted(trained_parts(plan.stage)),
        "steps": plan.load.steps,
        "group": {"tokens": shape.tokens, "patches": shape.patches, "answers": shape.answers},
        "forward_tokens": plan.forward_tokens,
        "bytes": {
            "weights": memory.weights,
            "gradients": memory.gradients,
            "optimizer": memory.optimizer,
            "activations": memory.activations,
            "all": memory.total,
        },
        "activation_bytes_per_token": {
            "kept": plan.activations[False],
            "checkpointed": plan.activations[True],
        },
        "tokens": plan.tokens,
        "flops": plan.flops,
        "seconds": plan.seconds,
    }


def as_text(plan: Plan) -> str:
    counts, card = plan.parameters, plan.card
    lines = [f"{plan.recipe.name}: {sum(counts.values()):,} parameters"]
    lines += [f"  {part:<10} {count:>14,}" for part, count in counts.items()]
    for stage in plan.stages:
        lines += ["", *_stage_lines(stage)]
        lines.append(
            f"  time       {duration(stage.seconds)} at {card.mfu:.0%} of {card.tflops:g} TFLOP/s"
        )
    usable = f"{card.gib:g} GiB card, {KEPT_FREE:.0%} kept free: {card.room / GIB:.1f} usable"
    return "\n".join([*lines, "", usable])


def _stage_lines(plan: StagePlan) -> list[str]:
    memory, shape, gib = plan.memory, plan.load.shape, 1 / GIB
    kept, lean = plan.activations[False], plan.activations[True]
    tokens = plan.forward_tokens
    return [
        f"{plan.stage.name}: trains {', '.join(sorted(trained_parts(plan.stage)))}; "
        f"{plan.load.steps:,} steps of {plan.stage.batch} groups",
        f"  a group    {shape.tokens:.0f} tokens, {shape.patches:.0f} patches, "
        f"{shape.answers:.1f} answers",
        f"  weights    {memory.weights * gib:8.2f} GiB",
        f"  gradients  {memory.gradients * gib:8.2f} GiB",
        f"  moments    {memory.optimizer * gib:8.2f} GiB",
        f"  activations{memory.activations * gib:8.2f} GiB for {tokens:,.0f} tokens "
        f"({kept * tokens * gib:.2f} kept whole, {lean * tokens * gib:.2f} checkpointed)",
        f"  in all     {memory.total * gib:8.2f} GiB",
        f"  work       {plan.tokens:.3g} tokens, {plan.flops:.3g} FLOPs",
    ]
