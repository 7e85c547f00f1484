"""One example for each request and answer of the other projects' routes."""

from typing import Any

from service.examples import PICTURE

MODEL = "vlrm-tiny"
CONVERSATION = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n"
    "<|im_start|>assistant\n4<|im_end|>\n"
)
WITH_PICTURE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What is shown?<|im_end|>\n"
    "<|im_start|>assistant\nA red apple.<|im_end|>"
)
MESSAGES: list[dict[str, Any]] = [
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": PICTURE}},
            {"type": "text", "text": "What is shown in the picture?"},
        ],
    },
    {"role": "assistant", "content": "A red apple."},
]
TOKENS = {"prompt_tokens": 31, "total_tokens": 31, "completion_tokens": 0}


def listed(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    """A list answer of one row, as vLLM and OpenAI write it."""
    head = {"id": f"{kind}-3f0c", "object": "list", "created": 1790000000, "model": MODEL}
    return {**head, "usage": TOKENS, "data": [{"index": 0, **row}]}


GET_REWARD: dict[str, Any] = {
    "text": {"query": [CONVERSATION], "prompts": [CONVERSATION[:-12]], "labels": [""]},
    "picture": {"query": [WITH_PICTURE], "labels": [f'{{"images": ["{PICTURE}"]}}']},
    "nothing": {"query": []},
}
GET_REWARD_ANSWER = {
    "rewards": [5.86],
    "scores": [0.788],
    "extra_logs": {"reward_raw": [5.86], "response_tokens": [3.0], "reward_normalized": [1.31]},
}
CLASSIFY: dict[str, Any] = {
    "text": {"model": MODEL, "input": CONVERSATION, "use_activation": False},
    "messages": {"model": MODEL, "messages": MESSAGES},
}
CLASSIFY_ANSWER = listed("classify", {"label": "LABEL_0", "probs": [5.86], "num_classes": 1})
POOLING: dict[str, Any] = {
    "texts": {"model": MODEL, "input": [CONVERSATION], "use_activation": False},
    "messages": {"model": MODEL, "messages": MESSAGES},
}
POOLING_ANSWER = listed("pool", {"object": "pooling", "data": [5.86]})
EMBEDDINGS: dict[str, Any] = {"text": {"model": MODEL, "input": CONVERSATION}}
EMBEDDINGS_ANSWER = listed("embd", {"object": "embedding", "embedding": [5.86]})
RERANK: dict[str, Any] = {
    "texts": {"query": "What is 2 + 2?", "documents": ["five", "4"], "top_n": 1},
    "picture": {
        "query": {"content": MESSAGES[0]["content"]},
        "documents": ["A red apple.", {"text": "A bicycle."}],
    },
}
RERANK_ANSWER = {
    "id": "rerank-3f0c",
    "model": MODEL,
    "results": [{"index": 1, "relevance_score": 0.997, "document": {"text": "4"}}],
    "usage": {"prompt_tokens": 62, "total_tokens": 62},
}
SCORE_EVALUATION: dict[str, Any] = {"texts": {"model": MODEL, "messages": [CONVERSATION]}}
SCORE_EVALUATION_ANSWER = {
    "id": "scoreval-3f0c",
    "object": "score.evaluation",
    "model": MODEL,
    "scores": [5.86],
}
