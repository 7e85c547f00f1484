"""One example for each request, answer and error; the OpenAPI file is made of them."""

from typing import Any

from rm_core.errors import (
    ImageNotFound,
    InvalidImage,
    InvalidInput,
    RewardError,
    TooLarge,
    TooManyPixels,
    TooManyTokens,
)
from service import errors

PICTURE = "data:image/png;base64,iVBORw0KGgo..."
MODEL = {"name": "vlrm-tiny", "revision": "sha256:5f2b..."}
USAGE = {
    "prompt_tokens": 91,
    "image_tokens": 64,
    "response_tokens": 14,
    "computed_tokens": 105,
}

SCORE_REQUESTS: dict[str, Any] = {
    "short": {
        "prompt": "What is shown in the picture?",
        "images": [PICTURE],
        "responses": ["A red apple.", "A bicycle."],
    },
    "messages": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": PICTURE}},
                    {"type": "text", "text": "What is shown in the picture?"},
                ],
            }
        ],
        "response": "A red apple.",
    },
}
COMPARE_REQUESTS: dict[str, Any] = {
    "short": {
        "prompt": "What is shown in the picture?",
        "images": [PICTURE],
        "response_a": "A red apple.",
        "response_b": "A bicycle.",
    }
}
RANK_REQUESTS: dict[str, Any] = {"short": SCORE_REQUESTS["short"]}

SCORE_ANSWER: dict[str, Any] = {
    "id": "score-3f0c",
    "model": MODEL,
    "scores": [
        {"index": 0, "score": 5.86, "normalized": 1.31, "tokens": 9},
        {"index": 1, "score": -3.2, "normalized": -0.74, "tokens": 5},
    ],
    "usage": USAGE,
}
COMPARE_ANSWER: dict[str, Any] = {
    "id": "compare-3f0c",
    "model": MODEL,
    "score_a": 5.86,
    "score_b": -3.2,
    "margin": 9.06,
    "probability_a": 0.998,
    "verdict": "a",
    "calibrated": True,
    "usage": USAGE,
}
RANK_ANSWER: dict[str, Any] = {
    "id": "rank-3f0c",
    "model": MODEL,
    "ranking": [
        {"index": 0, "score": 5.86, "normalized": 1.31, "rank": 1},
        {"index": 1, "score": -3.2, "normalized": -0.74, "rank": 2},
    ],
    "best": 0,
    "usage": USAGE,
}

# Every error a caller can meet, as it is worded on the wire.
ERRORS: tuple[RewardError, ...] = (
    errors.NotJson("the body is not JSON: Expecting value at line 1 column 1"),
    errors.MissingKey("this server needs a key: send Authorization: Bearer <key>"),
    errors.Forbidden("this route needs a key marked `admin` in the keys file"),
    errors.NotFound("there is no route /scores; GET /docs lists them"),
    errors.MethodNotAllowed("GET is not a method of /score; it takes POST"),
    errors.BodyTimeout("the body did not arrive within 30 seconds"),
    errors.BodyTooLarge("the body is larger than 33554432 bytes; upload pictures instead"),
    errors.TextTooLong("the texts have 1200000 characters; this server reads 1000000."),
    errors.TooMuchWork(
        "the prompt with one answer takes as much arithmetic as 20000 text tokens; one forward "
        "pass of this server takes 16384 (max_batch_tokens)."
    ),
    TooLarge("the picture has 300000000 bytes; the whole store holds 268435456"),
    errors.FetchTooLarge("the pictures behind URLs are larger than 33554432 bytes together"),
    TooManyTokens(9000, 4096),
    TooManyPixels("the picture is 20000x20000 = 400000000 pixels; the limit is 25000000."),
    errors.UnsupportedMediaType("send Content-Type: application/json (UTF-8)"),
    InvalidInput("response_a: field required", field="response_a"),
    InvalidImage("not a complete PNG/JPEG/WEBP picture (unknown format)", field="images[0]"),
    ImageNotFound("no picture sha256:5f2b... is stored here (any more)", field="images[0]"),
    errors.UrlNotAllowed("this server may not fetch from the URL's host", field="images[0]"),
    errors.FetchFailed("the picture could not be fetched from its URL", field="images[0]"),
    errors.FetchTooSlow("the picture did not arrive within 10 seconds", field="images[0]"),
    errors.DigestMismatch("the body's sha256 is 5f2b...; the address says 9c1d..."),
    errors.NotSupported("video is not supported yet; send single pictures of it", field="videos"),
    errors.PictureMissing("query[0] has picture tokens and no picture came", field="query[0]"),
    errors.TooManyResponses("5000 responses in one request; the limit is 1024.", field="responses"),
    errors.TooManyImages("70 pictures in one request; the limit is 64", field="images"),
    RewardError("something unexpected went wrong; the log names it by request id"),
    errors.ForwardFailed("the model failed on this request; the server's log says why"),
    errors.NonFiniteScore("the model's score is not a finite number; it is not sent"),
    errors.Overloaded("256 requests are already being worked on; retry later"),
    errors.Draining("the server is shutting down; send this to another replica"),
    errors.NotReady("the server is not ready: the golden self check failed"),
    errors.DeadlinePassed("X-Deadline-Ms passed before the score was there"),
)
