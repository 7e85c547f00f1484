"""The load generator measures what it says: the same questions, every error, nothing outside."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import load
from bench.measure import Answer, served, summary
from bench.questions import as_body, as_group, questions
from bench.report import table
from rm_core.scorer import Scorer
from tests.contract.test_real_prometheus import free_port
from tests.service.serving import TOLERANCE, serving

ROOT = Path(__file__).parents[2]


async def test_the_scorer_alone_gets_the_questions_the_server_gets(random_scorer: Scorer) -> None:
    rows = questions(20)
    async with serving(random_scorer) as running:
        answers = [(await running.post("/compare", as_body(row))).json() for row in rows]
    for row, answer in zip(rows, answers, strict=True):
        group = as_group(row)
        score = dict(zip(group.responses, random_scorer.score([group])[0], strict=True))
        expected = score[row.chosen] - score[row.rejected[0]]
        assert answer["margin"] == pytest.approx(expected, abs=2 * TOLERANCE)


def test_only_answers_in_the_window_count_and_only_good_ones_have_a_time() -> None:
    early, late = Answer(0.5, 900, True), Answer(12.5, 900, True)
    inside = [Answer(1 + number / 10, number, True) for number in range(1, 101)]
    row = summary(4, [early, *inside, Answer(3, 900, False), late], begin=1, end=12)
    assert (row.requests, row.errors) == (101, 1)
    assert row.requests_per_s == pytest.approx(100 / 11)
    assert (row.p50_ms, row.p95_ms) == (50.5, 95)


async def test_a_server_that_is_not_there_is_a_row_of_errors() -> None:
    url, body = f"http://127.0.0.1:{free_port()}", as_body(questions(1)[0])
    row = await served(url, [body], 2, warm_up=0, seconds=0.3)
    assert row.errors == row.requests > 0
    assert (row.requests_per_s, row.p50_ms) == (0, None)
    assert f"| none | none | 0 | {row.errors} |" in table([row])


def test_what_runs_elsewhere_is_not_compared_with_a_scorer_here() -> None:
    with pytest.raises(SystemExit):
        load.arguments(["--url", "http://127.0.0.1:8000", "--bare"])


def test_one_command_starts_a_server_and_writes_the_figures(
    random_checkpoint: Path, tmp_path: Path
) -> None:
    file = tmp_path / "figures.json"
    flags = ["--model", str(random_checkpoint), "--in-flight", "1", "4", "--bare", "--markdown"]
    flags += ["--seconds", "1", "--warm-up", "0.2", "--json", str(file)]
    command = [sys.executable, "-m", "bench.load", *flags]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(file.read_text())
    assert [row["in_flight"] for row in figures["rows"]] == [1, 4]
    assert all(row["errors"] == 0 < row["requests"] for row in figures["rows"])
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in figures["rows"])
    assert all(row["ratio"] > 0 for row in figures["rows"])
    assert ran.stdout.startswith(f"`{figures['setting']['command']}`, {figures['setting']['date']}")
    assert {"processor", "device", "python", "torch", "transformers"} <= set(figures["setting"])


def test_the_clients_cost_is_measured_by_one_command() -> None:
    flags = ["--calls", "3", "--rows", "12", "--questions", "5", "--seconds", "3"]
    flags += ["--concurrency", "2"]
    command = [sys.executable, "-m", "bench.client", *flags]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert ran.returncode == 0, ran.stderr
    assert "12/12 rows" in ran.stderr
    rows = [line.split("|") for line in ran.stdout.splitlines() if line.startswith("| `")]
    names = ["httpx.Client", "RewardClient", "bench.load", "bench.load", "vlrm score"]
    for row, name in zip(rows, names, strict=True):
        assert row[1].strip(" `").startswith(name)
    assert all(float(row[2].split()[0]) > 0 for row in rows)
