"""What the tests of other projects' routes share: templated text and the score it should get."""

from collections.abc import Sequence
from typing import Any

import httpx

from rm_core.chat import IMAGE_PAD, render
from rm_core.scorer import Scorer
from tests.service.serving import Running, asked

MODEL = "any/name"


def templated(question: str, answer: str, *pictures: bytes, pads: int = 1) -> str:
    """The conversation as a policy's processor leaves it, every picture `pads` pads long."""
    group = asked(question, [answer], *pictures)
    return render(group.conversation, answer).replace(IMAGE_PAD, IMAGE_PAD * pads)


def expected(
    scorer: Scorer, question: str, answers: Sequence[str], *pictures: bytes
) -> list[float]:
    return scorer.score([asked(question, answers, *pictures)])[0]


async def ok(server: Running, path: str, body: Any) -> Any:
    answer = await server.post(path, body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: httpx.Response, status: int, code: str, field: str | None) -> str:
    """The message of a refusal that has this status, code and field."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == (code, field), error
    return str(error["message"])


def overloads(server: Running) -> float:
    """How many requests were refused because the server was full."""
    registry = server.parts.metrics.registry
    return registry.get_sample_value("vlrm_rejected_total", {"reason": "overloaded"}) or 0.0
