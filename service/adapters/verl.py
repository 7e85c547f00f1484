"""verl: `reward.custom_reward_function.path=<the path of this file>`, its name `compute_score`.

The data set's `extra_info` carries what verl does not hand to a reward function: `prompt` (a
question, or messages) and `images`. verl's rate-limited reward manager turns a failure into a
reward of 0.0 by itself; use another one.
"""

from typing import Any

from service.adapters._http import areward


async def compute_score(
    data_source: str,  # noqa: ARG001  (verl calls by name)
    solution_str: str,
    ground_truth: Any,  # noqa: ARG001
    extra_info: dict[str, Any] | None = None,
    **_: Any,
) -> dict[str, float]:
    """{"score": the raw score of `solution_str`}."""
    given = extra_info or {}
    if "prompt" not in given:
        raise KeyError("extra_info of the data set needs `prompt`, and `images` when there are any")
    images = given.get("images")
    (score,) = await areward(
        [given["prompt"]], [solution_str], [images if images is not None else ()]
    )
    return {"score": score}
