"""POST /get_reward as OpenRLHF's remote reward client speaks it."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from rm_core.calibration import UNCALIBRATED, Calibration
from rm_core.errors import InvalidInput
from service.compat.pipeline import Result
from service.compat.questions import Picture, Question, from_text
from service.schemas import PICTURE, StopAtFirst, Strict

LABEL = f'{{"images": ["{PICTURE}"]}} as an object or as JSON text; any other label is ignored'
REMEDY = 'put it into the label: {"images": ["sha256:<hex> or data:image/png;base64,..."]}'


class GetRewardRequest(Strict):
    """Whole conversations as text; `prompts` and `labels` are those of the same samples."""

    query: Annotated[
        list[str],
        Field(description="Through the chat template, answer included."),
        StopAtFirst(),
    ]
    prompts: Annotated[
        list[str] | None,
        Field(description="Where a query begins with its prompt, the rest is its answer."),
    ] = None
    labels: Annotated[list[Any] | None, Field(description=LABEL)] = None

    @model_validator(mode="after")
    def _one_of_each(self) -> "GetRewardRequest":
        for name, given in (("prompts", self.prompts), ("labels", self.labels)):
            if given and len(given) != len(self.query):
                raise PydanticCustomError(
                    "lengths", f"there are {len(given)} {name} for {len(self.query)} queries"
                )
        return self


class GetRewardResponse(BaseModel):
    """One value a query in each list, one query or many."""

    rewards: list[float] = Field(description="Raw head output; it feeds the advantage.")
    scores: list[float] = Field(description="Between 0 and 1; dynamic filtering reads it.")
    extra_logs: dict[str, list[float]]


def questions(body: GetRewardRequest) -> list[Question]:
    """One question a query; pictures come from its label."""
    prompts: Sequence[str | None] = body.prompts or [None] * len(body.query)
    labels = body.labels or [""] * len(body.query)
    return [
        from_text(
            query,
            f"query[{i}]",
            prompt=prompt,
            pictures=pictures(label, f"labels[{i}]"),
            remedy=REMEDY,
        )
        for i, (query, prompt, label) in enumerate(zip(body.query, prompts, labels, strict=True))
    ]


def pictures(label: Any, field: str) -> list[Picture]:
    """The pictures a label names; a label that is about something else names none."""
    urls = _named(label)
    if urls is None:
        return []
    if not isinstance(urls, list) or not all(isinstance(url, str) and url for url in urls):
        where = f"{field}.images"
        raise InvalidInput(f"{where}: it must be a list of {PICTURE}", field=where)
    return [Picture(url, f"{field}.images[{i}]") for i, url in enumerate(urls)]


def _named(label: Any) -> Any:
    if isinstance(label, str) and label.lstrip().startswith("{"):
        try:
            label = json.loads(label)
        except (ValueError, RecursionError):
            return None  # an answer in braces, such as LaTeX
    return label.get("images") if isinstance(label, dict) else None


def answer(results: Sequence[Result], calibration: Calibration | None) -> GetRewardResponse:
    """`scores` is sigmoid(normalized), or sigmoid(raw) without a calibration."""
    raw = [result.score for result in results]
    normalized = [calibration.normalize(score) for score in raw] if calibration else raw
    # Always the same keys: the trainer concatenates them over a batch.
    logs = {"reward_raw": raw, "response_tokens": [float(r.answer_tokens) for r in results]}
    if calibration:
        logs["reward_normalized"] = normalized
    return GetRewardResponse(
        rewards=raw,
        scores=[UNCALIBRATED.probability(value) for value in normalized],
        extra_logs=logs,
    )
