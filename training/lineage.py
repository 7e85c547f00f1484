"""How to make a checkpoint again: recipe, code and versions, read when the run begins."""

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

from training import recipe
from training.config import Recipe

Lineage: TypeAlias = dict[str, Any]
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pillow", "vlrm")


def lineage_of(chosen: Recipe) -> Lineage:
    return {
        "recipe_digest": recipe.digest(chosen),
        "recipe": chosen.model_dump(mode="json", exclude={"output", "evaluation", "workers"}),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _commit() -> str | None:
    """The code's git commit, marked where files differ from it; None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    asked = [
        git,
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
    ]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
    return answer.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
