"""Pairwise accuracy on held-out preferences, through the same Scorer that serves."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rm_core.encode import EncodedGroup
from rm_core.errors import InvalidInput, TooLarge
from rm_core.scorer import Scorer
from training.data.records import Preference

PACK_TOKENS = 8_192


@dataclass(frozen=True)
class Judged:
    """One row with the scores its answers got; the chosen answer's stands first."""

    row: Preference
    scores: tuple[float, ...]

    @property
    def won(self) -> float:
        """Share of its pairs told right; a tie counts one half."""
        chosen, *rejected = self.scores
        return sum((chosen > r) + (chosen == r) / 2 for r in rejected) / len(rejected)

    @property
    def tied(self) -> int:
        chosen, *rejected = self.scores
        return rejected.count(chosen)


@dataclass(frozen=True)
class Outcome:
    """Judged rows of one set, and the rows that could not be scored, as (id, reason)."""

    judged: tuple[Judged, ...]
    refused: tuple[tuple[str, str], ...]

    def tasks(self) -> dict[str, float]:
        return _mean_by(self.judged, lambda judged: judged.row.task)

    def groups(self) -> dict[str, float]:
        """Mean over a group's tasks, so that a task with many rows weighs no more."""
        tasks = self.tasks()
        group_of = {judged.row.task: judged.row.group for judged in self.judged}
        members: dict[str, list[float]] = {}
        for task, value in tasks.items():
            members.setdefault(group_of[task], []).append(value)
        return {group: sum(values) / len(values) for group, values in members.items()}

    def mean(self) -> float:
        tasks = self.tasks()
        return sum(tasks.values()) / len(tasks)


def judge(scorer: Scorer, rows: Iterable[Preference]) -> Outcome:
    """Score rows a pack at a time; a row the model cannot take is named, not skipped in silence."""
    judged: list[Judged] = []
    refused: list[tuple[str, str]] = []
    for pack in _packs(scorer, rows, refused):
        scores = scorer.score_encoded([encoded for _, encoded in pack])
        judged += [Judged(row, tuple(s)) for (row, _), s in zip(pack, scores, strict=True)]
    return Outcome(tuple(judged), tuple(refused))


def _packs(
    scorer: Scorer, rows: Iterable[Preference], refused: list[tuple[str, str]]
) -> Iterator[list[tuple[Preference, EncodedGroup]]]:
    pack: list[tuple[Preference, EncodedGroup]] = []
    tokens = 0
    for row in rows:
        try:
            if row.tied:
                raise InvalidInput("answers with equal labels: none can be told right")
            encoded = scorer.encode(row.as_group())
        except (InvalidInput, TooLarge) as error:
            refused.append((row.id, error.message))
            continue
        if pack and tokens + encoded.num_tokens > PACK_TOKENS:
            yield pack
            pack, tokens = [], 0
        pack.append((row, encoded))
        tokens += encoded.num_tokens
    if pack:
        yield pack


def summary(outcomes: Mapping[str, Outcome]) -> dict[str, object]:
    """What the JSON report holds: per set the mean over tasks, groups, tasks, and the counts."""
    return {
        name: {
            "mean_over_tasks": outcome.mean(),
            "groups": outcome.groups(),
            "tasks": outcome.tasks(),
            "rows": len(outcome.judged),
            "pairs": sum(len(judged.scores) - 1 for judged in outcome.judged),
            "ties": sum(judged.tied for judged in outcome.judged),
            "refused": [list(refusal) for refusal in outcome.refused],
        }
        for name, outcome in outcomes.items()
    }


def table(outcomes: Mapping[str, Outcome]) -> str:
    """A Markdown table: a row per task within its group, a column per set."""
    lines = [_cells(["task", *outcomes]), _cells(["---"] * (len(outcomes) + 1))]
    first = next(iter(outcomes.values()))
    for group in first.groups():
        lines.append(_cells([f"**{group}**", *_column(outcomes, lambda o: o.groups(), group)]))
        members = dict.fromkeys(j.row.task for j in first.judged if j.row.group == group)
        lines += [_cells([task, *_column(outcomes, lambda o: o.tasks(), task)]) for task in members]
    lines.append(_cells(["**mean over tasks**", *(f"{o.mean():.3f}" for o in outcomes.values())]))
    return "\n".join(lines)


def _column(
    outcomes: Mapping[str, Outcome], values: Callable[[Outcome], dict[str, float]], name: str
) -> list[str]:
    found = [values(outcome).get(name) for outcome in outcomes.values()]
    return ["" if value is None else f"{value:.3f}" for value in found]


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _mean_by(judged: Sequence[Judged], key: Callable[[Judged], str]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for one in judged:
        found.setdefault(key(one), []).append(one.won)
    return {name: sum(values) / len(values) for name, values in found.items()}
