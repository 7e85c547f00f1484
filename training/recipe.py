"""Reading a recipe file: YAML, dotted overrides, and errors that say where and what instead."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rm_core.errors import InvalidInput
from training.config import Recipe
from training.spec import nearest

PACKAGED = Path(__file__).parent


class RecipeError(InvalidInput):
    """The recipe, or an override of it, cannot be used as written."""

    code = "invalid_recipe"


def read(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe at `path`, or the packaged one of that name, with `a.b=value` overrides."""
    raw = _parse(_find(Path(path)))
    for override in overrides:
        _apply(raw, override)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_explain(error)}") from error


def digest(recipe: Recipe) -> str:
    """Names a recipe by everything that can change the weights."""
    text = json.dumps(
        recipe.model_dump(mode="json", exclude={"output", "evaluation", "workers"}), sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _find(path: Path) -> Path:
    for candidate in (path, PACKAGED / path, PACKAGED / "recipes" / path.name):
        if candidate.is_file():
            return candidate
    packaged = sorted(p.name for p in (PACKAGED / "recipes").glob("*.yaml"))
    raise RecipeError(f"no recipe at {path}; packaged recipes: {', '.join(packaged) or 'none'}")


def _parse(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"{path} must hold a mapping, not {type(raw).__name__}")
    return raw


def _apply(raw: dict[str, Any], override: str) -> None:
    """Set one `a.b.0.c=value`; a list entry is named by its number or by its `name`."""
    dotted, equals, text = override.partition("=")
    if not equals or not all(dotted.split(".")):
        raise RecipeError(f"an override looks like stages.0.learning_rate=1e-4, not {override!r}")
    *way, last = dotted.split(".")
    place: Any = raw
    for step in way:
        place = _descend(place, step, dotted)
    place[_key(place, last, dotted)] = yaml.safe_load(text)


def _descend(place: Any, step: str, dotted: str) -> Any:
    key = _key(place, step, dotted)
    if isinstance(place, dict):
        return place.setdefault(key, {})
    return place[key]


def _key(place: Any, step: str, dotted: str) -> Any:
    if isinstance(place, dict):
        return step
    if not isinstance(place, list):
        raise RecipeError(f"override {dotted!r}: {step!r} is below a plain value")
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in place]
    if step in names:
        return names.index(step)
    if step.isdigit() and int(step) < len(place):
        return int(step)
    raise RecipeError(f"override {dotted!r}: no entry {step!r} among {len(place)}")


def _explain(error: ValidationError) -> str:
    """One line per problem: the dotted place, then what is wrong there."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(step) for step in problem["loc"]) or "recipe"
        lines.append(f"{where}: {_what(problem)}")
    return "; ".join(lines)


def _what(problem: ErrorDetails) -> str:
    if problem["type"] == "union_tag_invalid":
        tag, known = problem["ctx"]["tag"], problem["ctx"]["expected_tags"]
        return f"unknown kind {tag!r}; {nearest(tag, known.replace(chr(39), '').split(', '))}"
    return problem["msg"].removeprefix("Value error, ")
