"""The README's examples do what the README says they do."""

import contextlib
import io
import json
import re

import pytest

from bench.server_process import ROOT, ServerProcess
from tests.contract.tools import tool
from tests.e2e.readme import README, block, run_command


def test_the_readme_command_gives_the_readme_answer() -> None:
    tool("curl")
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


def test_the_readme_script_prints_the_same_score(monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"```python\n(.*?)```", README.read_text(), re.S)
    assert found is not None
    monkeypatch.chdir(ROOT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(found[1], {})
    shown = json.loads(block("answer"))["scores"][0]["score"]
    assert json.loads(printed.getvalue()) == [[pytest.approx(shown, abs=1e-3)]]
