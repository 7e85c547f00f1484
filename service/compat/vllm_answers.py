"""Results in vLLM's and OpenAI's shapes: a list of rows, each a vector of one number."""

import base64
import struct
import time
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from rm_core.calibration import UNCALIBRATED
from service.compat.pipeline import Result
from service.compat.vllm import ClassifyRequest, EmbeddingsRequest, PoolingRequest


class TokenUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class Listed(BaseModel):
    id: str
    object: Literal["list"] = "list"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    usage: TokenUsage


class Classified(BaseModel):
    index: int
    label: Annotated[str, Field(description="transformers' name for the only label.")] = "LABEL_0"
    probs: list[float]
    num_classes: int = 1


class ClassifyResponse(Listed):
    data: list[Classified]


class Pooled(BaseModel):
    index: int
    object: Literal["pooling"] = "pooling"
    data: list[float] | str


class PoolingResponse(Listed):
    data: list[Pooled]


class Embedded(BaseModel):
    index: int
    object: Literal["embedding"] = "embedding"
    embedding: list[float] | str


class EmbeddingsResponse(Listed):
    data: list[Embedded]


def classified(
    body: ClassifyRequest, results: Sequence[Result], model: str, request_id: str
) -> ClassifyResponse:
    rows = [
        Classified(index=i, probs=[activated(result.score, body.use_activation)])
        for i, result in enumerate(results)
    ]
    return ClassifyResponse(id=request_id, model=model, usage=usage(results), data=rows)


def pooled(
    body: PoolingRequest, results: Sequence[Result], model: str, request_id: str
) -> PoolingResponse:
    scores = [activated(result.score, body.use_activation) for result in results]
    rows = [
        Pooled(index=i, data=written(score, body.encoding_format)) for i, score in enumerate(scores)
    ]
    return PoolingResponse(id=request_id, model=model, usage=usage(results), data=rows)


def embedded(
    body: EmbeddingsRequest, results: Sequence[Result], model: str, request_id: str
) -> EmbeddingsResponse:
    rows = [
        Embedded(index=i, embedding=written(result.score, body.encoding_format))
        for i, result in enumerate(results)
    ]
    return EmbeddingsResponse(id=request_id, model=model, usage=usage(results), data=rows)


def activated(score: float, use_activation: bool | None) -> float:
    """vLLM's default for a one-label head is the sigmoid."""
    return score if use_activation is False else UNCALIBRATED.probability(score)


def written(score: float, encoding_format: str) -> list[float] | str:
    """A vector of one, as numbers or as base64 of little-endian float32."""
    if encoding_format == "float":
        return [score]
    return base64.b64encode(struct.pack("<f", score)).decode()


def usage(results: Sequence[Result]) -> TokenUsage:
    """Every conversation counted whole, as if nothing had been shared."""
    tokens = sum(result.prompt_tokens + result.answer_tokens for result in results)
    return TokenUsage(prompt_tokens=tokens, total_tokens=tokens)
