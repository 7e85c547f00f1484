"""`vlrm score`, `compare` and `export`: files and texts in, a readable answer out, no server."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rm_core.calibration import UNCALIBRATED
from rm_core.images import decode
from rm_core.types import Conversation, ScoreGroup

if TYPE_CHECKING:
    from rm_core.scorer import Scorer

# The same bound a server has by default.
MAX_IMAGE_PIXELS = 25_000_000


def score(argv: Sequence[str]) -> str:
    """Score one or more answers."""
    parser = _parser("score", "Score answers to a question about pictures.")
    parser.add_argument("--response", action="append", required=True, metavar="TEXT")
    options = parser.parse_args(argv)
    scorer, scores = _scores(options, options.response)
    calibration = scorer.calibration
    rows = [
        {
            "score": raw,
            "normalized": calibration.normalize(raw) if calibration else None,
            "response": text,
        }
        for raw, text in zip(scores, options.response, strict=True)
    ]
    if options.json:
        return json.dumps({"model": scorer.info.revision, "scores": rows}, ensure_ascii=False)
    lines = [f"{'score':>9}  {'normalized':>10}  response"]
    for raw, row in zip(scores, rows, strict=True):
        normalized = "-" if row["normalized"] is None else f"{row['normalized']:.3f}"
        lines.append(f"{raw:>9.4f}  {normalized:>10}  {_short(str(row['response']))}")
    return "\n".join(lines)


def compare(argv: Sequence[str]) -> str:
    """Compare two answers."""
    parser = _parser("compare", "Compare two answers to a question about pictures.")
    parser.add_argument("--a", required=True, metavar="TEXT")
    parser.add_argument("--b", required=True, metavar="TEXT")
    options = parser.parse_args(argv)
    scorer, (score_a, score_b) = _scores(options, [options.a, options.b])
    calibration = scorer.calibration or UNCALIBRATED
    margin = score_a - score_b
    found = {
        "score_a": score_a,
        "score_b": score_b,
        "margin": margin,
        "probability_a": calibration.probability(margin),
        "verdict": calibration.verdict(margin),
        "calibrated": scorer.calibration is not None,
    }
    if options.json:
        return json.dumps({"model": scorer.info.revision, **found})
    lines = [
        f"a  {score_a:>9.4f}  {_short(options.a)}",
        f"b  {score_b:>9.4f}  {_short(options.b)}",
        f"margin {margin:.4f}, probability that a is better {found['probability_a']:.3f}"
        + ("" if scorer.calibration else " (uncalibrated)"),
        f"verdict: {found['verdict']}",
    ]
    return "\n".join(lines)


def export(argv: Sequence[str]) -> str:
    """Rewrite a checkpoint for another server."""
    parser = argparse.ArgumentParser(
        prog="vlrm export", description="Rewrite a checkpoint for another server."
    )
    parser.add_argument("--to", required=True, metavar="TARGET", help="vllm")
    parser.add_argument("checkpoint", metavar="DIR|HUB_ID")
    parser.add_argument("folder", type=Path, help="a new folder")
    options = parser.parse_args(argv)
    from rm_core.checkpoints.export import HINTS, export  # imports torch

    export(options.checkpoint, options.to, options.folder)
    return f"{options.folder}: written. {HINTS[options.to].format(folder=options.folder)}"


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"vlrm {name}", description=description)
    parser.add_argument("--image", action="append", default=[], type=Path, metavar="FILE")
    parser.add_argument("--question", required=True, metavar="TEXT")
    parser.add_argument("--model", metavar="DIR|HUB_ID", help="without it: the embedded model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _scores(options: argparse.Namespace, responses: Sequence[str]) -> tuple["Scorer", list[float]]:
    from rm_core.scorer import Scorer  # imports torch; --help and wrong flags need not wait for it

    images = [decode(path.read_bytes(), max_pixels=MAX_IMAGE_PIXELS) for path in options.image]
    group = ScoreGroup(Conversation.ask(options.question, *images), tuple(responses))
    scorer = Scorer.load(options.model, device=options.device, dtype=options.dtype)
    return scorer, scorer.score([group])[0]


def _short(text: str, width: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
