"""The scripts in examples/ run as a reader runs them, and agree with each other."""

import os
import subprocess
import sys

import pytest

from tests.e2e.server_process import ROOT, ServerProcess

ANSWERS = ["It is an apple.", "It is a banana."]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"examples/{script}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def rows(finished: subprocess.CompletedProcess[str]) -> tuple[list[float], list[str]]:
    assert finished.returncode == 0, finished.stderr
    pairs = [line.split(maxsplit=1) for line in finished.stdout.splitlines()]
    return [float(score) for score, _ in pairs], [response for _, response in pairs]


def test_with_and_without_a_server_the_apple_gets_the_same_scores() -> None:
    here, asked = rows(run("score.py"))
    with ServerProcess("--threads", "1") as server:
        there, ranked = rows(run("score_http.py", server.url))
        refused = run("score_http.py", f"{server.url}/nowhere")
    assert asked == ranked == ANSWERS
    assert here == pytest.approx(there, abs=2e-3)  # both are printed with three digits
    assert refused.returncode == 1
    assert "no such route" in refused.stderr
