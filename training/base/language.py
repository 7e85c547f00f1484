"""The stand-in's first words: what it says of a picture, then right answers against wrong ones.

Checking scores every token of an answer, not only the last, and compares the means. A wrong word
is then punished where it stands; with the last token alone, matching words to the picture takes
much longer to appear.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rm_core.encode import EncodedGroup, Encoder
from rm_core.model import RewardModel
from rm_core.packing import PackedBatch, pack
from training.base.model import WIDTH
from training.base.pointing import Pointer, draw_pointed, pointed_loss, word_ids
from training.base.tower import cosine, decaying, descend, set_rate
from training.base.words import content_weights
from training.data.tasks import TASKS, draw
from training.losses import bradley_terry, pair_up
from training.runlog import RunLog

CHECKING: Mapping[str, float] = {
    "describe": 1.2, "list": 1.5, "exists": 1.5, "count": 1.2, "sum": 1.2,
    "where": 2.0, "side": 2.0, "more": 1.5,
}  # fmt: skip
# Saying a place or a number is what makes checking it possible, so it is practised more.
SPEAKING: Mapping[str, float] = {
    **CHECKING, "count": 2.4, "sum": 2.4, "where": 8.0, "side": 8.0, "more": 3.0
}  # fmt: skip
POINTED_PICTURES = 48
MEAN_SCALE = 4.0  # means over tokens differ less than last tokens do
LANGUAGE_SHARE = 0.2  # of the next-token loss, while checking


@dataclass(frozen=True)
class Steps:
    """How long each of the three phases is."""

    pointing: int
    speaking: int
    checking: int

    @property
    def total(self) -> int:
        return self.pointing + self.speaking + self.checking


class Teacher:
    """The decoder, helpers that are thrown away afterwards, and one optimiser for all phases."""

    def __init__(self, model: RewardModel, encoder: Encoder, rng: Random, log: RunLog) -> None:
        model.backbone.visual.requires_grad_(False)
        self.model, self.encoder, self.rng, self.log = model, encoder, rng, log
        self.pointer = Pointer(encoder.tokenizer, WIDTH)
        self.checker = nn.Linear(WIDTH, 1, bias=False)
        nn.init.normal_(self.checker.weight, 0.0, 0.02)
        self.weights_V = content_weights(encoder.tokenizer)
        modules = (model, self.pointer, self.checker)
        trained = [p for module in modules for p in module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(decaying(trained, 0.02), betas=(0.9, 0.98))

    def teach(self, steps: Steps, batch: int = 32, learning_rate: float = 2e-3) -> None:
        """All phases under one falling rate."""
        words = word_ids(self.encoder.tokenizer)
        speaking = self._batches(SPEAKING, batch)
        checking = self._batches(CHECKING, batch)
        for step in range(steps.total):
            if step < steps.pointing:
                loss, numbers = self._point(words)
            elif step < steps.pointing + steps.speaking:
                loss, numbers = self._speak(next(speaking))
            else:
                loss, numbers = self._check(next(checking))
            set_rate(self.optimizer, cosine(step, steps.total, learning_rate, warmup=100))
            descend(self.optimizer, loss)
            if (step + 1) % 50 == 0 or step + 1 == steps.total:
                self._report(step + 1, steps.total, numbers)
        self.model.requires_grad_(True)

    def _point(self, words: Mapping[int, str]) -> tuple[Tensor, Mapping[str, float]]:
        rows = [draw_pointed(self.rng, self.encoder) for _ in range(POINTED_PICTURES)]
        return pointed_loss(self.model, self.pointer, rows, words)

    def _speak(self, groups: list[EncodedGroup]) -> tuple[Tensor, Mapping[str, float]]:
        packed, hidden_TD = self._read(groups)
        loss = self._said(hidden_TD, packed)
        return loss, {"said": loss.item()}

    def _check(self, groups: list[EncodedGroup]) -> tuple[Tensor, Mapping[str, float]]:
        """The reward head on last tokens, the checker on whole answers, and still speaking."""
        packed, hidden_TD = self._read(groups)
        whole_N = MEAN_SCALE * _means(self.checker(hidden_TD).squeeze(-1), packed)
        last, last_right = _compare(self.model.score(hidden_TD, packed), packed)
        whole, whole_right = _compare(whole_N, packed)
        loss = last + whole + LANGUAGE_SHARE * self._said(hidden_TD, packed)
        return loss, {"loss": last.item(), "right": last_right, "right_by_mean": whole_right}

    def _read(self, groups: list[EncodedGroup]) -> tuple[PackedBatch, Tensor]:
        packed = pack(groups, self.model.image_pad_id, self.model.rules.merge_size)
        return packed, self.model.hidden(packed)

    def _said(self, hidden_TD: Tensor, packed: PackedBatch) -> Tensor:
        """Next-token loss on the right answers; words about the picture weigh most."""
        index_L, before_L = _chosen_tokens(packed)
        target_L = packed.input_ids_T[index_L]
        embedding_VD = self.model.backbone.language_model.embed_tokens.weight
        loss_L = cross_entropy(hidden_TD[before_L] @ embedding_VD.T, target_L, reduction="none")
        weight_L = self.weights_V[target_L]
        return weight_L @ loss_L / weight_L.sum()

    def _report(self, step: int, steps: int, numbers: Mapping[str, float]) -> None:
        self.log.event("first_words", step=step, steps=steps, **numbers)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in numbers.items())
        self.log.progress(f"first words {step}/{steps}  {shown}")

    def _batches(self, weights: Mapping[str, float], size: int) -> Iterator[list[EncodedGroup]]:
        """Groups about pictures for ever; those of one length go together, it costs less."""
        tasks = [name for name, task in TASKS.items() if task.group != "text"]
        shares = [weights.get(task, 1.0) for task in tasks]
        while True:
            drawn = self.rng.choices(tasks, shares, k=8 * size)
            groups = [self.encoder.encode(draw(self.rng, task).as_group()) for task in drawn]
            groups.sort(key=lambda group: group.num_tokens)
            starts = list(range(0, len(groups), size))
            self.rng.shuffle(starts)
            yield from (groups[start : start + size] for start in starts)


def _compare(scores_N: Tensor, packed: PackedBatch) -> tuple[Tensor, float]:
    """Mean pairwise loss over groups, and the share of pairs told right."""
    pairs, groups = pair_up(scores_N, packed.group_sizes), len(packed.spans)
    loss = pairs.weight_P @ bradley_terry(pairs.chosen_P, pairs.rejected_P) / groups
    right_P = (pairs.chosen_P > pairs.rejected_P).float()
    return loss, (pairs.weight_P @ right_P / groups).item()


def _chosen_tokens(packed: PackedBatch) -> tuple[Tensor, Tensor]:
    """Where each group's first answer stands, and the token before each of its tokens."""
    index = [
        torch.arange(start := span.start + span.prefix, start + span.answers[0])
        for span in packed.spans
    ]
    index_L = torch.cat(index)
    return index_L, index_L - 1


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
