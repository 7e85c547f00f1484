"""What pydantic found wrong, as one of our sentences with a JSON path."""

from collections.abc import Sequence
from typing import Any

from rm_core.errors import InvalidInput


def invalid(problems: Sequence[Any]) -> InvalidInput:
    """The first problem, and how many more there are; never the input itself."""
    first, more = problems[0], len(problems) - 1
    field = path(first["loc"])
    suffix = f" (and {more} more)" if more else ""
    start = f"{field}: " if field else ""
    return InvalidInput(f"{start}{sentence(first)}{suffix}", field=field)


def sentence(problem: Any) -> str:
    """pydantic's words, except where they do not say what to do."""
    if problem["type"] == "extra_forbidden":
        return "unknown key; remove it or correct its spelling"
    message: str = problem["msg"]
    return message[:1].lower() + message[1:]


def path(location: Sequence[int | str]) -> str | None:
    """('messages', 0, '~parts', 'type') -> messages[0].type, bounded in length."""
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not step.startswith("~"):
            text += f".{step}"
    return text.lstrip(".")[:200] or None
