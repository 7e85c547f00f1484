"""POST /v1/score/evaluation as LLaMA-Factory's API server speaks it."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from service.compat.pipeline import Result
from service.compat.questions import Question, from_text
from service.schemas import StopAtFirst, Strict

REMEDY = "this route carries no pictures; send it to POST /score or /classify as messages"


class ScoreEvaluationRequest(Strict):
    """Conversations that already went through the chat template."""

    model: Annotated[str | None, Field(description="Any name; there is one model.")] = None
    messages: Annotated[list[str], Field(min_length=1), StopAtFirst()]
    max_length: Annotated[
        int | None, Field(ge=1, description="A limit in tokens: longer is 413, never cut.")
    ] = None


class ScoreEvaluationResponse(BaseModel):
    id: str
    object: Literal["score.evaluation"] = "score.evaluation"
    model: str
    scores: list[float] = Field(description="Raw head output.")


def questions(body: ScoreEvaluationRequest) -> list[Question]:
    """One question a text."""
    return [
        from_text(text, f"messages[{i}]", remedy=REMEDY) for i, text in enumerate(body.messages)
    ]


def answer(results: Sequence[Result], model: str, request_id: str) -> ScoreEvaluationResponse:
    return ScoreEvaluationResponse(
        id=request_id, model=model, scores=[result.score for result in results]
    )
