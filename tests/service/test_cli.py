"""The command line, up to the point where a server starts listening (that is in tests/e2e)."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from rm_core.scorer import Scorer
from service import cli
from service.settings import Settings
from tests.service.serving import TOLERANCE, asked, png

ROOT = Path(__file__).parents[2]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "apple.png"
    path.write_bytes(png())
    return path


def arguments(picture: Path, checkpoint: Path) -> list[str]:
    return ["--model", str(checkpoint), "--image", str(picture), "--question", "What is it?"]


def test_score_prints_what_the_scorer_says(
    picture: Path,
    random_checkpoint: Path,
    random_scorer: Scorer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = ("An apple.", "A dog.")
    command = ["score", *arguments(picture, random_checkpoint), "--json"]
    assert cli.main([*command, "--response", answers[0], "--response", answers[1]]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = random_scorer.score([asked("What is it?", answers, png())])[0]
    assert [row["score"] for row in printed["scores"]] == pytest.approx(expected, abs=TOLERANCE)
    assert [row["response"] for row in printed["scores"]] == list(answers)
    assert printed["model"] == random_scorer.info.revision


def test_score_table(
    picture: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "word\n" * 100
    command = ["score", *arguments(picture, random_checkpoint)]
    assert cli.main([*command, "--response", "An apple.", "--response", long]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["score", "normalized", "response"]
    assert first.endswith("-  An apple.")
    assert second.endswith("…")
    assert len(second) < 110


def test_compare(
    picture: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", *arguments(picture, random_checkpoint), "--a", "An apple.", "--b", "No."]
    assert cli.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["margin"] == found["score_a"] - found["score_b"]
    assert cli.main(command) == 0
    table = capsys.readouterr().out
    assert f"verdict: {found['verdict']}" in table
    assert "uncalibrated" in table


@pytest.mark.parametrize(
    ("image", "words"),
    [("missing.png", "No such file"), ("text.png", "not a complete")],
)
def test_a_bad_picture_is_one_sentence_and_exit_1(
    tmp_path: Path, image: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("hello")
    command = ["score", "--image", str(tmp_path / image), "--question", "x", "--response", "y"]
    assert cli.main(command) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["nonsense"]])
def test_an_unknown_command_lists_the_known_ones(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    listed = re.search(r"\{(.*)\}", capsys.readouterr().err)
    assert listed is not None
    assert {"compare", "score", "serve"} <= set(listed[1].split(","))


def test_a_command_whose_packages_are_missing_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point = EntryPoint("train", "no_such_package.cli:train", cli.COMMAND_GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [point])
    assert cli.main(["train", "x.yaml"]) == 1
    assert "no_such_package" in capsys.readouterr().err


def test_another_packages_command_gets_the_rest_of_the_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = EntryPoint("count", "builtins:len", cli.COMMAND_GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [point])
    assert cli.main(["count", "a", "b"]) == 2


def test_every_setting_has_a_flag() -> None:
    flags = cli.serve_parser().format_help()
    assert all("--" + name.replace("_", "-") in flags for name in Settings.model_fields)


def serve(*flags: str, **environ: str) -> tuple[subprocess.CompletedProcess[str], float]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VLRM_")}
    started = time.monotonic()
    command = [sys.executable, "-X", "importtime", "-m", "service.cli", "serve", *flags]
    done = subprocess.run(
        command, cwd=ROOT, env=clean | environ, capture_output=True, text=True, check=False
    )
    return done, time.monotonic() - started


@pytest.mark.parametrize(
    ("flags", "environ", "words"),
    [
        pytest.param(["--port", "x"], {}, "--port", id="flag"),
        pytest.param([], {"VLRM_PROT": "1"}, "VLRM_PROT", id="variable"),
        pytest.param(["--host", "0.0.0.0"], {}, "allow_anonymous", id="open_server"),
        pytest.param(["--api-keys-file", "/none"], {}, "/none", id="keys_file"),
    ],
)
def test_a_wrong_setting_ends_the_server_at_once_without_torch_or_traceback(
    flags: list[str], environ: dict[str, str], words: str
) -> None:
    done, _ = serve(*flags, **environ)
    told = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 1
    assert len(told) == 1
    assert words in told[0]
    assert "torch" not in done.stderr


def test_a_taken_port_is_known_before_the_model_is_loaded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done, _ = serve("--port", str(port))
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "| torch\n" not in done.stderr


def test_rank_puts_the_better_answer_first(
    picture: Path,
    random_checkpoint: Path,
    random_scorer: Scorer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = ("An apple.", "A dog.", "An apple.")
    command = ["rank", *arguments(picture, random_checkpoint)]
    command += [word for answer in answers for word in ("--response", answer)]
    assert cli.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    apple, dog, _ = random_scorer.score([asked("What is it?", answers, png())])[0]
    order = [0, 2, 1] if apple > dog else [1, 0, 2]
    assert [row["index"] for row in found["ranking"]] == order
    assert [row["rank"] for row in found["ranking"]] == ([1, 1, 3] if apple > dog else [1, 2, 2])
    assert found["best"] == order[0]
    assert cli.main(command) == 0
    assert capsys.readouterr().out.split()[:4] == ["rank", "score", "normalized", "response"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["score", "--question", "x"], "needs --response"),
        (["compare", "--question", "x", "--a", "y"], "needs --b"),
        (["rank", "--question", "x", "--response", "y"], "at least twice"),
        (["score", "--input", "x.jsonl", "--output", "y"], "needs --url with --input"),
        (["score", "--input", "x.jsonl", "--url", "http://x"], "needs --output with --input"),
        (
            ["score", "--input", "x", "--output", "y", "--url", "http://x", "--json"],
            "--json does not go",
        ),
        (
            ["score", "--question", "x", "--response", "y", "--url", "http://x", "--model", "z"],
            "--model does not go",
        ),
        (["score", "--question", "x", "--response", "y", "--retries", "3"], "--retries does not"),
        (["score", "--question", "x", "--response", "y", "--keep", "z"], "--keep does not go"),
    ],
)
def test_flags_that_do_not_go_together(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(argv)
    assert words in capsys.readouterr().err
