"""The scripts in examples/ run as a reader runs them, and agree with each other."""

import os
import subprocess
import sys

import pytest

from bench.server_process import ROOT, ServerProcess

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
        by_client, told = rows(run("score_client.py", server.url))
        scripts = ("score_http.py", "score_client.py")
        refused = [run(script, f"{server.url}/nowhere") for script in scripts]
    assert asked == ranked == told == ANSWERS
    assert here == pytest.approx(there, abs=2e-3)  # all are printed with three digits
    assert here == pytest.approx(by_client, abs=2e-3)
    for finished in refused:
        assert finished.returncode == 1
        assert "no such route" in finished.stderr
        assert "Traceback" not in finished.stderr
