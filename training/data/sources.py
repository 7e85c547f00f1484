"""Where preferences come from, by the name a recipe gives: the built-in tasks or a pairs folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from rm_core.errors import UnknownName
from training.data.dataset import Source
from training.data.folder import FolderSource
from training.data.records import Preference
from training.data.tasks import TASKS, TRAIN, Split, draw

BUILTIN = "builtin"


@dataclass(frozen=True)
class Generated:
    """Endless rows of some built-in tasks; row i is always the same row."""

    tasks: tuple[str, ...]
    seed: int
    split: Split = TRAIN
    size: None = None

    def row(self, index: int) -> Preference:
        rng = Random(f"{self.seed}/{index}")
        return draw(rng, rng.choice(self.tasks), self.split)


def open_source(name: str, seed: int) -> Source:
    """`builtin`, `builtin/<task or group>`, or a folder; what is missing is refused here."""
    if is_builtin(name):
        return Generated(builtin_tasks(name), seed)
    return FolderSource.open(Path(name))


def is_builtin(name: str) -> bool:
    return name == BUILTIN or name.startswith(f"{BUILTIN}/")


def builtin_tasks(name: str) -> tuple[str, ...]:
    """The tasks behind a built-in name."""
    wanted = name.removeprefix(BUILTIN).removeprefix("/")
    groups = groups_of_tasks()
    if not wanted:
        return tuple(TASKS)
    if wanted in TASKS:
        return (wanted,)
    if wanted in groups:
        return groups[wanted]
    raise UnknownName("built-in source", name, [f"{BUILTIN}/{n}" for n in (*groups, *TASKS)])


def groups_of_tasks() -> Mapping[str, tuple[str, ...]]:
    names = dict.fromkeys(task.group for task in TASKS.values())
    return {group: tuple(n for n, t in TASKS.items() if t.group == group) for group in names}
