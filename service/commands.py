"""`vlrm score`, `vlrm compare` and `vlrm rank`: one question, or a whole file of rows."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import tables
from service.offline import Offline

if TYPE_CHECKING:
    from service.client import RewardClient

DESCRIPTIONS = {
    "score": "Score answers to a question about pictures.",
    "compare": "Compare two answers to a question about pictures.",
    "rank": "Put answers to a question about pictures in order.",
}
OF_A_QUESTION = ("image", "question", "response", "a", "b", "json")
OF_THIS_PROCESS = ("model", "device", "dtype")
OF_A_FILE = ("output", "concurrency", "keep", "retry_failed")
OF_A_SERVER = ("api_key_file", "timeout_s", "retries", "expected_revision")


def main(command: str, argv: Sequence[str]) -> int:
    """The exit code; refusals are raised as errors of one sentence."""
    words = parser(command)
    given = words.parse_args(argv)
    if wrong := refusal(command, given):
        words.error(wrong)
    if "input" in given:
        return _file(command, given)
    print(_question(command, given))
    return 0


def parser(command: str) -> argparse.ArgumentParser:
    """Nothing has a default here: what was not given must be told from what was."""
    words = argparse.ArgumentParser(
        prog=f"vlrm {command}",
        description=DESCRIPTIONS[command],
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    words.add_argument("--url", help="ask the server at this address instead of loading a model")
    one = words.add_argument_group("one question")
    one.add_argument("--image", action="append", type=Path, metavar="FILE")
    one.add_argument("--question", metavar="TEXT")
    if command == "compare":
        one.add_argument("--a", metavar="TEXT")
        one.add_argument("--b", metavar="TEXT")
    else:
        one.add_argument("--response", action="append", metavar="TEXT")
    one.add_argument("--json", action="store_true", help="print JSON instead of a table")
    here = words.add_argument_group("without a server")
    here.add_argument("--model", metavar="DIR|HUB_ID", help="without it: the embedded model")
    here.add_argument("--device")
    here.add_argument("--dtype")
    _add_file(words.add_argument_group("a file of rows, with --url"))
    _add_server(words.add_argument_group("with --url"))
    return words


def _add_file(words: argparse._ArgumentGroup) -> None:
    words.add_argument("--input", type=Path, metavar="ROWS.jsonl|ROWS.parquet")
    words.add_argument("--output", type=Path, metavar="ANSWERS.jsonl", help="appended to")
    words.add_argument("--concurrency", type=int, metavar="N", help="rows at a time (16)")
    words.add_argument("--keep", action="append", metavar="COLUMN", help="copy to the output")
    words.add_argument("--retry-failed", action="store_true", help="do failed rows again")


def _add_server(words: argparse._ArgumentGroup) -> None:
    words.add_argument("--api-key-file", type=Path, metavar="FILE", help="holds the key alone")
    words.add_argument(
        "--timeout-s", type=float, metavar="SECONDS", help="for one call, retries included"
    )
    words.add_argument("--retries", type=int, metavar="N", help="further tries of one call")
    words.add_argument("--expected-revision", metavar="REVISION", help="refuse any other model")


def refusal(command: str, given: argparse.Namespace) -> str | None:
    """What does not go together, or is missing."""
    needed: tuple[str, ...] = ("url", "output")
    useless: tuple[str, ...] = OF_A_QUESTION + OF_THIS_PROCESS
    if "input" not in given:
        needed = ("question", "a", "b") if command == "compare" else ("question", "response")
        useless = OF_A_FILE + (OF_THIS_PROCESS if "url" in given else OF_A_SERVER)
    if missing := [name for name in needed if name not in given]:
        return f"needs {_flag(missing[0])}" + (" with --input" if "input" in given else "")
    if wrong := [name for name in useless if name in given]:
        return f"{_flag(wrong[0])} does not go with the other flags"
    if command == "rank" and "input" not in given and len(given.response) < 2:
        return "needs --response at least twice"
    return None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _file(command: str, given: argparse.Namespace) -> int:
    from service.bulk.run import Job, Server, run  # imports httpx; --help need not wait for it

    files = _given(given, ("output", "concurrency", "retry_failed"))
    job = Job(command, given.input, keep=tuple(getattr(given, "keep", ())), **files)
    try:
        failed = run(job, Server(given.url, **_server(given)))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 1 if failed else 0


def _question(command: str, given: argparse.Namespace) -> str:
    if "url" not in given:
        return _told(command, given, Offline(**_given(given, OF_THIS_PROCESS)))
    from service.client import RewardClient

    with RewardClient(given.url, **_server(given)) as client:
        return _told(command, given, client)


def _server(given: argparse.Namespace) -> dict[str, Any]:
    found = _given(given, OF_A_SERVER)
    if "api_key_file" in found:  # never a flag of its own: others can read a command line
        found["api_key"] = found.pop("api_key_file").read_text(encoding="utf-8").strip()
    return found


def _given(given: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in vars(given).items() if name in names}


def _told(command: str, given: argparse.Namespace, asked: "Offline | RewardClient") -> str:
    images, as_json = getattr(given, "image", []), "json" in given
    if command == "compare":
        texts = (given.a, given.b)
        compared = asked.compare(given.question, *texts, images=images)
        return tables.compare_json(compared) if as_json else tables.compare(compared, texts)
    if command == "rank":
        ranked = asked.rank(given.question, given.response, images=images)
        return (tables.rank_json if as_json else tables.rank)(ranked, given.response)
    scored = asked.score(given.question, given.response, images=images)
    return (tables.score_json if as_json else tables.score)(scored, given.response)
