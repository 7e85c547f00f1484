"""POST /score, /compare and /rank: three views of one group of scores."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from rm_core.calibration import UNCALIBRATED
from service import examples
from service.accept import accepted
from service.apidoc import answers, json_body
from service.deps import Call, Parts, PartsDep, require_key
from service.pipeline import score as score_group
from service.schemas import (
    CompareRequest,
    CompareResponse,
    ModelName,
    Ranked,
    RankRequest,
    RankResponse,
    Score,
    ScoreRequest,
    ScoreResponse,
)

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
    rows = zip(result.scores, result.tokens, strict=True)
    return ScoreResponse(
        id=new_id("score"),
        model=model_name(parts),
        scores=[
            Score(index=i, score=raw, normalized=normalized(parts, raw), tokens=tokens)
            for i, (raw, tokens) in enumerate(rows)
        ],
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
    score_a, score_b = result.scores
    margin = score_a - score_b
    parts.metrics.margins.observe(abs(margin))
    calibration = parts.scorer.calibration or UNCALIBRATED
    return CompareResponse(
        id=new_id("compare"),
        model=model_name(parts),
        score_a=score_a,
        score_b=score_b,
        margin=margin,
        probability_a=calibration.probability(margin),
        verdict=calibration.verdict(margin),
        calibrated=parts.scorer.calibration is not None,
        usage=result.usage,
    )


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
    ranking = ranked(parts, result.scores)
    return RankResponse(
        id=new_id("rank"),
        model=model_name(parts),
        ranking=ranking,
        best=ranking[0].index,
        usage=result.usage,
    )


def ranked(parts: Parts, scores: tuple[float, ...]) -> list[Ranked]:
    """Rank is one more than the number of strictly better answers."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    best_first = [scores[i] for i in order]
    return [
        Ranked(
            index=i, score=raw, normalized=normalized(parts, raw), rank=best_first.index(raw) + 1
        )
        for i, raw in zip(order, best_first, strict=True)
    ]


def normalized(parts: Parts, raw: float) -> float | None:
    return parts.scorer.calibration.normalize(raw) if parts.scorer.calibration else None


def new_id(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


def model_name(parts: Parts) -> ModelName:
    return ModelName(name=parts.scorer.info.name, revision=parts.scorer.info.revision)
