"""Counts between two reports: loss, accuracy by task, rewards, speed, and time spent waiting."""

import time
from collections.abc import Iterable, Iterator, Sequence

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
        groups = float(len(rows))
        won_P = wins(pairs.chosen_P.detach(), pairs.rejected_P.detach())
        for name, values_P in (
            ("loss", loss_P.detach()),
            ("accuracy", won_P),
            ("ties", (won_P == 0.5).to(won_P.dtype)),
            ("margin", (pairs.chosen_P - pairs.rejected_P).detach()),
            ("reward", ((pairs.chosen_P + pairs.rejected_P) / 2).detach()),
        ):
            self._tally.add(name, float(values_P @ pairs.weight_P), groups)
        self._count_tasks(rows, (won_P * pairs.weight_P).tolist())
        self._groups += len(rows)
        self._tokens += sum(row.encoded.num_tokens for row in rows)

    def _count_tasks(self, rows: Sequence[Row], won: list[float]) -> None:
        parts = iter(won)
        for row in rows:
            pairs = len(row.encoded.answer_ids) - 1
            self._by_task.add(row.task, sum(next(parts) for _ in range(pairs)), 1)

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
        log.progress(
            f"{stage} {done}/{steps}  loss {means['loss']:.3f}  accuracy {means['accuracy']:.3f}  "
            f"{speed['groups_per_second']:.0f} groups/s  waiting {speed['waiting_share']:.0%}  "
            f"{duration(left)} left"
        )
        self._reset()
