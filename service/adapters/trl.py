"""TRL: GRPOTrainer(reward_funcs=[reward]) or, beside other asynchronous ones, [areward].

Prompts may be plain or conversational; pictures are in their image parts or in a column
`images` or `image`.
"""

from collections.abc import Sequence
from typing import Any

from service.adapters import _http


def reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
    """The raw score of each completion."""
    return _http.reward(prompts, completions, _images(columns))


async def areward(
    prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
) -> list[float]:
    """The raw score of each completion."""
    return await _http.areward(prompts, completions, _images(columns))


def _images(columns: dict[str, Any]) -> list[Any] | None:
    if columns.get("images") is not None:
        return list(columns["images"])
    if columns.get("image") is not None:
        return [None if picture is None else [picture] for picture in columns["image"]]
    return None
