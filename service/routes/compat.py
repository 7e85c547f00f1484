"""Other projects' routes: their request in, the same scoring call, their answer out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from service.accept import accepted
from service.apidoc import answers, json_body
from service.compat import cohere, examples, llamafactory, openrlhf, vllm, vllm_answers
from service.compat.pipeline import score
from service.deps import Call, PartsDep, require_key
from service.routes.score import REFUSALS, new_id

router = APIRouter(dependencies=[Depends(require_key)], tags=["other projects"])


@router.post(
    "/get_reward",
    responses=answers(*REFUSALS, example=examples.GET_REWARD_ANSWER),
    openapi_extra=json_body(openrlhf.GetRewardRequest, examples.GET_REWARD),
)
async def get_reward(
    request: Request,
    call: Annotated[Call[openrlhf.GetRewardRequest], Depends(accepted(openrlhf.GetRewardRequest))],
    parts: PartsDep,
) -> openrlhf.GetRewardResponse:
    """OpenRLHF's remote reward: one for each whole conversation."""
    results = await score(call, parts, request.receive, lambda: openrlhf.questions(call.body))
    return openrlhf.answer(results, parts.scorer.calibration)


@router.post(
    "/classify",
    responses=answers(*REFUSALS, example=examples.CLASSIFY_ANSWER),
    openapi_extra=json_body(vllm.ClassifyRequest, examples.CLASSIFY),
)
async def classify(
    request: Request,
    call: Annotated[Call[vllm.ClassifyRequest], Depends(accepted(vllm.ClassifyRequest))],
    parts: PartsDep,
) -> vllm_answers.ClassifyResponse:
    """vLLM's classification: `probs` is the sigmoid of the score, or the score itself."""
    body, name = call.body, parts.scorer.info.name
    results = await score(
        call,
        parts,
        request.receive,
        lambda: vllm.questions(body),
        token_limit=body.token_limit,
    )
    return vllm_answers.classified(body, results, name, new_id("classify"))


@router.post(
    "/pooling",
    responses=answers(*REFUSALS, example=examples.POOLING_ANSWER),
    openapi_extra=json_body(vllm.PoolingRequest, examples.POOLING),
)
async def pooling(
    request: Request,
    call: Annotated[Call[vllm.PoolingRequest], Depends(accepted(vllm.PoolingRequest))],
    parts: PartsDep,
) -> vllm_answers.PoolingResponse:
    """vLLM's pooling with its task `classify`."""
    body, name = call.body, parts.scorer.info.name
    results = await score(
        call,
        parts,
        request.receive,
        lambda: vllm.questions(body),
        token_limit=body.token_limit,
    )
    return vllm_answers.pooled(body, results, name, new_id("pool"))


@router.post(
    "/v1/embeddings",
    responses=answers(*REFUSALS, example=examples.EMBEDDINGS_ANSWER),
    openapi_extra=json_body(vllm.EmbeddingsRequest, examples.EMBEDDINGS),
)
async def embeddings(
    request: Request,
    call: Annotated[Call[vllm.EmbeddingsRequest], Depends(accepted(vllm.EmbeddingsRequest))],
    parts: PartsDep,
) -> vllm_answers.EmbeddingsResponse:
    """OpenAI's shape as verl reads it from SGLang: the embedding is the raw score alone."""
    body, name = call.body, parts.scorer.info.name
    results = await score(
        call,
        parts,
        request.receive,
        lambda: vllm.questions(body),
        token_limit=body.token_limit,
    )
    return vllm_answers.embedded(body, results, name, new_id("embd"))


@router.post(
    "/rerank",
    response_model_exclude_none=True,
    responses=answers(*REFUSALS, example=examples.RERANK_ANSWER),
    openapi_extra=json_body(cohere.RerankRequest, examples.RERANK),
)
async def rerank(
    request: Request,
    call: Annotated[Call[cohere.RerankRequest], Depends(accepted(cohere.RerankRequest))],
    parts: PartsDep,
) -> cohere.RerankResponse:
    """Cohere's and vLLM's reranking: the documents are answers to the query, best first."""
    body, name = call.body, parts.scorer.info.name
    results = await score(call, parts, request.receive, lambda: cohere.questions(body))
    return cohere.answer(body, results, name, new_id("rerank"))


@router.post(
    "/v1/score/evaluation",
    responses=answers(*REFUSALS, example=examples.SCORE_EVALUATION_ANSWER),
    openapi_extra=json_body(llamafactory.ScoreEvaluationRequest, examples.SCORE_EVALUATION),
)
async def score_evaluation(
    request: Request,
    call: Annotated[
        Call[llamafactory.ScoreEvaluationRequest],
        Depends(accepted(llamafactory.ScoreEvaluationRequest)),
    ],
    parts: PartsDep,
) -> llamafactory.ScoreEvaluationResponse:
    """LLaMA-Factory's scoring of conversations that went through the chat template."""
    body, name = call.body, parts.scorer.info.name
    results = await score(
        call,
        parts,
        request.receive,
        lambda: llamafactory.questions(body),
        token_limit=body.max_length,
    )
    return llamafactory.answer(results, name, new_id("scoreval"))
