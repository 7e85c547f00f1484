"""POST /score, /compare and /rank: three views of one group of scores."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from service import examples
from service.accept import accepted
from service.apidoc import answers, json_body
from service.deps import Call, Parts, PartsDep, require_key
from service.pipeline import score as score_group
from service.schemas import (
    CompareRequest,
    CompareResponse,
    ModelName,
    RankRequest,
    RankResponse,
    ScoreRequest,
    ScoreResponse,
)
from service.verdicts import compared, ranked, scored

REFUSALS = (400, 401, 408, 413, 415, 422, 500, 503, 504)

router = APIRouter(dependencies=[Depends(require_key)], tags=["scoring"])


@router.post(
    "/score",
    responses=answers(*REFUSALS, example=examples.SCORE_ANSWER),
    openapi_extra=json_body(ScoreRequest, examples.SCORE_REQUESTS),
)
async def score(
    request: Request,
    call: Annotated[Call[ScoreRequest], Depends(accepted(ScoreRequest))],
    parts: PartsDep,
) -> ScoreResponse:
    """Score one or more answers to one prompt; they share the prompt's computation."""
    result = await score_group(call, parts, request.receive)
    return ScoreResponse(
        id=new_id("score"),
        model=model_name(parts),
        scores=scored(result.scores, result.tokens, parts.scorer.calibration),
        usage=result.usage,
    )


@router.post(
    "/compare",
    responses=answers(*REFUSALS, example=examples.COMPARE_ANSWER),
    openapi_extra=json_body(CompareRequest, examples.COMPARE_REQUESTS),
)
async def compare(
    request: Request,
    call: Annotated[Call[CompareRequest], Depends(accepted(CompareRequest))],
    parts: PartsDep,
) -> CompareResponse:
    """Which of two answers is better, by how much, and how sure that is."""
    result = await score_group(call, parts, request.receive)
    answer = compared(
        result.scores,
        parts.scorer.calibration,
        answer_id=new_id("compare"),
        model=model_name(parts),
        usage=result.usage,
    )
    parts.metrics.margins.observe(abs(answer.margin))
    return answer


@router.post(
    "/rank",
    responses=answers(*REFUSALS, example=examples.RANK_ANSWER),
    openapi_extra=json_body(RankRequest, examples.RANK_REQUESTS),
)
async def rank(
    request: Request,
    call: Annotated[Call[RankRequest], Depends(accepted(RankRequest))],
    parts: PartsDep,
) -> RankResponse:
    """The answers, best first; equal scores share a rank."""
    result = await score_group(call, parts, request.receive)
    ranking = ranked(result.scores, parts.scorer.calibration)
    return RankResponse(
        id=new_id("rank"),
        model=model_name(parts),
        ranking=ranking,
        best=ranking[0].index,
        usage=result.usage,
    )


def new_id(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


def model_name(parts: Parts) -> ModelName:
    return ModelName(name=parts.scorer.info.name, revision=parts.scorer.info.revision)
