"""Answers as the command line prints them: a table for people, or JSON."""

import json
from collections.abc import Sequence

from service.schemas import CompareResponse, RankResponse, ScoreResponse


def score(answer: ScoreResponse, responses: Sequence[str]) -> str:
    lines = [f"{'score':>9}  {'normalized':>10}  response"]
    for row, text in zip(answer.scores, responses, strict=True):
        lines.append(f"{row.score:>9.4f}  {_or_dash(row.normalized):>10}  {_short(text)}")
    return "\n".join(lines)


def score_json(answer: ScoreResponse, responses: Sequence[str]) -> str:
    rows = [
        {"score": row.score, "normalized": row.normalized, "response": text}
        for row, text in zip(answer.scores, responses, strict=True)
    ]
    return _json({"model": answer.model.revision, "scores": rows})


def rank(answer: RankResponse, responses: Sequence[str]) -> str:
    lines = [f"{'rank':>4}  {'score':>9}  {'normalized':>10}  response"]
    for row in answer.ranking:
        normalized, text = _or_dash(row.normalized), _short(responses[row.index])
        lines.append(f"{row.rank:>4}  {row.score:>9.4f}  {normalized:>10}  {text}")
    return "\n".join(lines)


def rank_json(answer: RankResponse, responses: Sequence[str]) -> str:
    rows = [{**row.model_dump(), "response": responses[row.index]} for row in answer.ranking]
    return _json({"model": answer.model.revision, "ranking": rows, "best": answer.best})


def compare(answer: CompareResponse, responses: Sequence[str]) -> str:
    doubt = "" if answer.calibrated else " (uncalibrated)"
    return "\n".join(
        [
            f"a  {answer.score_a:>9.4f}  {_short(responses[0])}",
            f"b  {answer.score_b:>9.4f}  {_short(responses[1])}",
            f"margin {answer.margin:.4f}, probability that a is better "
            f"{answer.probability_a:.3f}{doubt}",
            f"verdict: {answer.verdict}",
        ]
    )


def compare_json(answer: CompareResponse) -> str:
    found = answer.model_dump(exclude={"id", "model", "usage"})
    return _json({"model": answer.model.revision, **found})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _or_dash(normalized: float | None) -> str:
    return "-" if normalized is None else f"{normalized:.3f}"


def _short(text: str, width: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
