"""The model card: what it is, where it comes from, what was measured, its limits."""

import json
from collections.abc import Mapping
from typing import Any

from rm_core.model import RewardModel
from training import evaluate
from training.calibrate import Quality
from training.config import FromScratch, Recipe, Stage
from training.data.atlas import PICTURES, UNSEEN_VENDOR
from training.data.sources import is_builtin
from training.evaluate import Outcome

FROM_SCRATCH = """\
There was no pretrained base to start from: tokenizer, vision tower and language model were trained
from nothing by the recipe's `base` section. It stands in for Qwen2.5-VL-7B-Instruct, has the same
architecture and input format, and knows only the small world of its training pictures."""

LIMITS = """\
- It was measured on the tasks in the table. Elsewhere its scores are untested.
- The grey-picture column is a control: 0.5 means a task cannot be solved without looking.
- A reward is a comparison. Scores of different questions share a scale only by calibration."""
SMALL_WORLD = """
- Its world is some dozens of drawn things on 56-pixel pictures and short English sentences.
- Drawings of the unseen vendor give the honest figure; photographs were not tried."""


def write(
    chosen: Recipe,
    model: RewardModel,
    outcomes: Mapping[str, Outcome],
    quality: Quality,
    lineage: Mapping[str, Any],
) -> str:
    """The README.md of the checkpoint; every figure in it was measured by this run."""
    parameters = sum(p.numel() for p in model.parameters())
    sections = [
        f"# {chosen.name}",
        f"A pairwise reward model on the Qwen2.5-VL architecture, {parameters / 1e6:.2f} million "
        f"parameters: a conversation with pictures and an answer in, one number out.",
        "## Where it comes from",
        _origin(chosen),
        _stages(chosen),
        "## Held-out pairwise accuracy",
        _measured(outcomes),
        evaluate.table(outcomes),
        f"After temperature scaling, on the first set: expected calibration error "
        f"{quality.ece:.3f}, Brier score {quality.brier:.3f}.",
        "## Limits",
        LIMITS + (SMALL_WORLD if isinstance(chosen.base, FromScratch) else ""),
        "## Pictures and licences",
        _licences(chosen),
        "## Made by",
        f"`vlrm train` with recipe digest `{lineage['recipe_digest']}`, commit "
        f"`{lineage['commit']}`. The whole recipe is in `vlrm.json` under `lineage`.",
    ]
    return "\n\n".join(sections) + "\n"


def _origin(chosen: Recipe) -> str:
    if isinstance(chosen.base, FromScratch):
        return FROM_SCRATCH
    return f"Fine-tuned from `{chosen.base.source}`."


def _stages(chosen: Recipe) -> str:
    lines = [
        "| stage | data | length | learning rate | frozen |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [_stage_row(number, stage) for number, stage in enumerate(chosen.stages, 1)]
    return "\n".join(lines)


def _stage_row(number: int, stage: Stage) -> str:
    data = ", ".join(entry.source for entry in stage.data)
    length = f"{stage.steps} steps" if stage.steps is not None else f"{stage.epochs:g} epochs"
    frozen = ", ".join(_frozen(stage)) or "none"
    cells = (f"{number} {stage.name}", data, f"{length} of {stage.batch} groups")
    return f"| {' | '.join(cells)} | {stage.learning_rate:g}{_asked(stage)} | {frozen} |"


def _asked(stage: Stage) -> str:
    """What a stage does otherwise than usual."""
    loss = "" if stage.loss.kind == "bradley_terry" else f", loss {stage.loss.kind}"
    return loss + (f", adapters of rank {stage.lora.rank}" if stage.lora else "")


def _licences(chosen: Recipe) -> str:
    """The built-in pictures with their makers; a user's own folders are named, not judged."""
    named = {entry.source for stage in chosen.stages for entry in stage.data}
    folders = sorted(name for name in named if not is_builtin(name))
    lines = [f"- Pairs folder `{name}`; its licence is its owner's to state." for name in folders]
    if len(folders) < len(named) or isinstance(chosen.base, FromScratch):
        vendors = json.loads((PICTURES / "manifest.json").read_text())
        lines += [_vendor_line(vendor, about) for vendor, about in vendors.items()]
        lines += [
            "- easy-VQA 1.0 (MIT); charts and texts are made by the project (Apache-2.0)",
            "- signs are drawn by the project in Source Sans Pro and Source Serif Pro (OFL-1.1) and"
            " Caladea (Apache-2.0); those of the unseen vendor in Pillow's own font",
        ]
    return "\n".join(lines)


def _vendor_line(vendor: str, about: Mapping[str, Any]) -> str:
    use = "examination only, never trained on" if vendor == UNSEEN_VENDOR else "training"
    package = f"{about['package']} {about['version']}"
    return f"- {about['author']} ({about['licence']}), from {package}: {use}"


def _frozen(stage: Stage) -> list[str]:
    thaw = stage.unfreeze_after
    return [f"{p} (until {thaw[p]:.0%})" if p in thaw else str(p) for p in stage.frozen]


def _measured(outcomes: Mapping[str, Outcome]) -> str:
    counts = "; ".join(f"{name}: {len(o.judged)} rows" for name, o in outcomes.items())
    return (
        "Share of (chosen, rejected) pairs told right, ties one half, measured with the weights "
        f"as written. {counts}."
    )
