"""Counts between two reports: loss, accuracy by task, rewards, speed, and time spent waiting."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from training.data.dataset import Batch, Row
from training.losses import Pairs, wins
from training.runlog import RunLog, Tally, duration


class Meter:
    """Sums since the last report; every mean is weighted by what it is a mean of."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._first_step: int | None = None
        self._reset()

    def _reset(self) -> None:
        self._tally, self._by_task = Tally(), Tally()
        self._since = time.monotonic()
        self._waited = 0.0
        self._groups = self._tokens = self._steps = 0

    def waiting_for(self, prepared: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; the seconds spent asking for them are the data's."""
        batches = iter(prepared)
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            self._waited += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def count(self, rows: Sequence[Row], pairs: Pairs, loss_P: Tensor) -> None:
        """One forward's pairs; a group's pairs weigh one together."""
        won_P = wins(pairs.chosen_P.detach(), pairs.rejected_P.detach())
        # Of two answers with equal labels none can be told right.
        ordered_P = torch.where(pairs.strength_P > 0, pairs.weight_P, 0.0)
        for name, values_P, weight_P in (
            ("loss", loss_P.detach(), pairs.weight_P),
            ("accuracy", won_P, ordered_P),
            ("ties", (won_P == 0.5).to(won_P.dtype), ordered_P),
            ("margin", (pairs.chosen_P - pairs.rejected_P).detach(), ordered_P),
            ("reward", ((pairs.chosen_P + pairs.rejected_P) / 2).detach(), pairs.weight_P),
        ):
            self._tally.add(name, float(values_P @ weight_P), float(weight_P.sum()))
        self._count_tasks(rows, (won_P * ordered_P).tolist(), ordered_P.tolist())
        self._groups += len(rows)
        self._tokens += sum(row.encoded.num_tokens for row in rows)

    def _count_tasks(self, rows: Sequence[Row], won: list[float], weights: list[float]) -> None:
        parts = zip(won, weights, strict=True)
        for row in rows:
            for right, weight in islice(parts, len(row.strengths)):
                self._by_task.add(row.task, right, weight)

    def count_language(self, loss: float, groups: int) -> None:
        self._tally.add("language_loss", loss * groups, groups)

    def count_step(self, grad_norm: float) -> None:
        self._tally.add("grad_norm", grad_norm, 1)
        self._steps += 1

    def report(self, log: RunLog, stage: str, done: int, steps: int, rate: float) -> None:
        """One JSON line and one readable line, then start counting afresh."""
        if self._first_step is None:
            self._first_step = done - self._steps
        seconds = time.monotonic() - self._since
        means = self._tally.means()
        speed = {
            "groups_per_second": self._groups / seconds,
            "tokens_per_second": self._tokens / seconds,
            "waiting_share": self._waited / seconds,
        }
        tasks = self._by_task.means()
        log.event(
            "train", stage=stage, step=done, learning_rate=rate, **means, **speed, tasks=tasks
        )
        left = (time.monotonic() - self._began) / (done - self._first_step) * (steps - done)
        shown = "  ".join(f"{n} {means[n]:.3f}" for n in ("loss", "accuracy") if n in means)
        log.progress(
            f"{stage} {done}/{steps}  {shown}  "
            f"{speed['groups_per_second']:.0f} groups/s  waiting {speed['waiting_share']:.0%}  "
            f"{duration(left)} left"
        )
        self._reset()
