"""What the Dockerfile says, for tests that follow it without an engine."""

import json
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """(word, rest) of every instruction, comments dropped, continued lines joined."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    pairs = (line.partition(" ") for line in text.splitlines() if line.strip())
    return [(word, rest.strip()) for word, _, rest in pairs]


def last(word: str) -> str:
    return [rest for found, rest in instructions() if found == word][-1]


def copied_from_context() -> list[str]:
    copies = [shlex.split(rest) for word, rest in instructions() if word == "COPY"]
    return [name for words in copies if words[0][:2] != "--" for name in words[:-1]]


def variables() -> dict[str, str]:
    """The environment of the image: ENV of the last stage."""
    return dict(word.split("=", 1) for word in shlex.split(last("ENV")))


def healthcheck() -> list[str]:
    return list(map(str, json.loads(last("HEALTHCHECK").partition("CMD ")[2])))


def command() -> list[str]:
    return [*json.loads(last("ENTRYPOINT")), *json.loads(last("CMD"))]


def sent_to_build() -> set[str]:
    """Names that .dockerignore lets through; it shuts out everything and then opens."""
    return set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.M))
