"""The stand-in's first words: answers token by token, then right ones against wrong ones.

Checking scores every token of an answer, not only the last, and compares the means. A wrong word
is then punished where it stands; with the last token alone, matching words to the picture takes
much longer to appear.
"""

from collections.abc import Iterator, Mapping
from random import Random

import torch
from torch import Tensor, nn

from rm_core.encode import EncodedGroup, Encoder
from rm_core.model import RewardModel
from rm_core.packing import PackedBatch, pack
from training.base.model import WIDTH
from training.base.pointing import Pointer, draw_pointed, pointed_loss, word_ids
from training.base.tower import cosine, decaying, descend, set_rate
from training.data.tasks import TASKS, draw
from training.losses import bradley_terry, next_token, pair_up
from training.runlog import RunLog

TASK_WEIGHTS: Mapping[str, float] = {
    "describe": 1.2, "list": 1.5, "exists": 1.5, "count": 1.2, "sum": 1.2,
    "where": 2.0, "side": 2.0, "more": 1.5,
}  # fmt: skip
POINTED_PICTURES = 48
MEAN_SCALE = 4.0  # means over tokens differ less than last tokens do


def teach(
    model: RewardModel,
    encoder: Encoder,
    rng: Random,
    log: RunLog,
    *,
    pointing_steps: int,
    speaking_steps: int,
    checking_steps: int,
    batch: int = 32,
    learning_rate: float = 2e-3,
) -> None:
    """Pointing, speaking and checking steps under one falling rate; the tower stays as it is."""
    model.backbone.visual.requires_grad_(False)
    pointer, checker = Pointer(WIDTH), nn.Linear(WIDTH, 1, bias=False)
    nn.init.normal_(checker.weight, 0.0, 0.02)
    modules = (model, pointer, checker)
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(decaying(trained, 0.02), lr=learning_rate, betas=(0.9, 0.98))
    steps = pointing_steps + speaking_steps + checking_steps
    words = word_ids(encoder.tokenizer)
    for step in range(pointing_steps):
        rows = [draw_pointed(rng, encoder) for _ in range(POINTED_PICTURES)]
        loss, read = pointed_loss(model, pointer, rows, words)
        set_rate(optimizer, cosine(step, steps, learning_rate, warmup=100))
        descend(optimizer, loss)
        if (step + 1) % 50 == 0:
            _report(log, "pointing", step + 1, pointing_steps, read)
    batches = _batches(encoder, rng, batch)
    for step, groups in zip(range(pointing_steps, steps), batches, strict=False):
        packed = pack(groups, model.image_pad_id, model.rules.merge_size)
        hidden_TD = model.hidden(packed)
        language = next_token(model, hidden_TD, packed)
        checked, right = _check(model, checker, hidden_TD, packed)
        set_rate(optimizer, cosine(step, steps, learning_rate, warmup=100))
        speaking = step < pointing_steps + speaking_steps
        descend(optimizer, language if speaking else checked + 0.2 * language)
        if (step + 1) % 50 == 0 or step + 1 == steps:
            numbers = {"language": language.item(), "checked": checked.item(), "right": right}
            _report(log, "speaking" if speaking else "checking", step + 1, steps, numbers)
    model.requires_grad_(True)


def _report(log: RunLog, phase: str, step: int, steps: int, numbers: Mapping[str, float]) -> None:
    log.event(phase, step=step, steps=steps, **numbers)
    shown = "  ".join(f"{name} {value:.3f}" for name, value in numbers.items())
    log.progress(f"{phase} {step}/{steps}  {shown}")


def _check(
    model: RewardModel, checker: nn.Module, hidden_TD: Tensor, packed: PackedBatch
) -> tuple[Tensor, float]:
    """Pairwise loss of the reward head on last tokens plus the checker's on whole answers."""
    last = pair_up(model.score(hidden_TD, packed), packed.group_sizes)
    whole = pair_up(MEAN_SCALE * _means(checker(hidden_TD).squeeze(-1), packed), packed.group_sizes)
    groups = len(packed.spans)
    losses = [p.weight_P @ bradley_terry(p.chosen_P, p.rejected_P) / groups for p in (last, whole)]
    right = (last.weight_P @ (last.chosen_P > last.rejected_P).float() / groups).item()
    return torch.stack(losses).sum(), right


def _means(values_T: Tensor, packed: PackedBatch) -> Tensor:
    """The mean over each answer's tokens, (N,)."""
    owner = torch.full((len(values_T),), packed.num_scored)
    number = 0
    for span in packed.spans:
        for start, length in zip(span.answer_starts(), span.answers, strict=True):
            owner[start : start + length] = number
            number += 1
    sums = torch.zeros(packed.num_scored + 1).index_add(0, owner, values_T)
    return (sums / torch.bincount(owner, minlength=packed.num_scored + 1).clamp(min=1))[:-1]


def _batches(encoder: Encoder, rng: Random, size: int) -> Iterator[list[EncodedGroup]]:
    """Groups about pictures for ever; those of one length go together, it costs less."""
    tasks = [name for name, task in TASKS.items() if task.group != "text"]
    weights = [TASK_WEIGHTS.get(task, 1.0) for task in tasks]
    while True:
        drawn = rng.choices(tasks, weights, k=8 * size)
        groups = [encoder.encode(draw(rng, task).as_group()) for task in drawn]
        groups.sort(key=lambda group: group.num_tokens)
        starts = list(range(0, len(groups), size))
        rng.shuffle(starts)
        yield from (groups[start : start + size] for start in starts)
