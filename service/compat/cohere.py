"""POST /rerank as Cohere and vLLM speak it: the query is the prompt, each document an answer."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Discriminator, Field, Tag

from service.compat.pipeline import Result
from service.compat.questions import Question, Turn, parts, plain_text
from service.compat.vllm import NO_EFFECT, Refused
from service.compat.vllm_answers import activated, usage
from service.schemas import Answer, Content, StopAtFirst, Strict


class Parts(Strict):
    content: Content


class Text(Strict):
    text: Answer


def _kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "~string"
    if isinstance(value, Parts | Text):
        return "~parts" if isinstance(value, Parts) else "~text"
    if isinstance(value, dict):
        return "~text" if "text" in value else "~parts"
    return None


Input = Annotated[
    Annotated[Answer, Tag("~string")]
    | Annotated[Parts, Tag("~parts")]
    | Annotated[Text, Tag("~text")],
    Discriminator(
        _kind,
        custom_error_type="document",
        custom_error_message='it is a text, {"text": ...} or {"content": [parts]}',
    ),
]


class RerankRequest(Strict):
    """A question, with pictures when it has content parts, and answers to put in order."""

    model: Annotated[str | None, Field(description="Any name; there is one model.")] = None
    query: Input
    documents: Annotated[list[Input], Field(min_length=1), StopAtFirst()]
    top_n: Annotated[int | None, Field(ge=0, description="0 or null: all of them.")] = None
    return_documents: bool | None = None
    use_activation: Annotated[
        bool | None, Field(description="false: the raw score; else sigmoid of it.")
    ] = None
    user: Annotated[str | None, Field(description=NO_EFFECT)] = None
    instruction: Refused = None
    max_tokens_per_doc: Refused = None
    max_chunks_per_doc: Refused = None
    rank_fields: Refused = None


class Document(BaseModel):
    text: str


class Reranked(BaseModel):
    index: int
    relevance_score: float
    document: Document | None = None


class RerankUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class RerankResponse(BaseModel):
    id: str
    model: str
    results: list[Reranked] = Field(description="Best first.")
    usage: RerankUsage


def questions(body: RerankRequest) -> list[Question]:
    """All documents answer one prompt, so that it is computed once."""
    turns = (Turn("user", parts(*_content(body.query, "query"))),)
    return [Question(turns, _text(body, i), f"documents[{i}]") for i in range(len(body.documents))]


def _text(body: RerankRequest, i: int) -> str:
    return plain_text(*_content(body.documents[i], f"documents[{i}]"))


def _content(value: str | Parts | Text, field: str) -> tuple[Any, str]:
    match value:
        case Parts(content=content):
            return content, f"{field}.content"
        case Text(text=text):
            return text, f"{field}.text"
        case _:
            return value, field


def answer(
    body: RerankRequest, results: Sequence[Result], model: str, request_id: str
) -> RerankResponse:
    """Tokens are counted whole for each document, as if the query were not shared."""
    tokens = usage(results).total_tokens
    return RerankResponse(
        id=request_id,
        model=model,
        results=ranked(body, results),
        usage=RerankUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


def ranked(body: RerankRequest, results: Sequence[Result]) -> list[Reranked]:
    """Best first by raw score, so that a saturated sigmoid keeps the order; ties in given order."""
    order = sorted(range(len(results)), key=lambda i: -results[i].score)
    shown = body.return_documents is not False
    return [
        Reranked(
            index=i,
            relevance_score=activated(results[i].score, body.use_activation),
            document=Document(text=_text(body, i)) if shown else None,
        )
        for i in order[: body.top_n or None]
    ]
