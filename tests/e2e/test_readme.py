"""The README's first example does what the README says it does."""

import json

import pytest

from tests.e2e.readme import block, run_command
from tests.e2e.server_process import ServerProcess


def test_the_readme_command_gives_the_readme_answer() -> None:
    with ServerProcess("--threads", "1") as server:
        answer = run_command(server.url)
    shown = json.loads(block("answer"))
    assert answer.keys() == shown.keys()
    assert answer["model"] == shown["model"]
    assert answer["usage"] == shown["usage"]
    for mine, printed in zip(answer["scores"], shown["scores"], strict=True):
        assert mine == pytest.approx(printed, abs=1e-3)
    apple, *others = (score["score"] for score in answer["scores"])
    assert all(apple > other for other in others)
