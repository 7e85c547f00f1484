"""Files of rows through a real server: every row once, whatever happens in between."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.server_process import ROOT, ServerProcess
from rm_core.scorer import Scorer
from service import cli
from tests.contract.test_real_prometheus import free_port
from tests.e2e.test_client import CLOSE, counted
from tests.service.serving import asked, data_url, png

QUESTION = "Which one?"
SCORES = 'vlrm_requests_total{route="/score",status="200"}'


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--threads", "1") as running:
        yield running


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer.load(device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "red.png").write_bytes(png())
    return tmp_path


def responses(number: int) -> list[str]:
    return [f"It is number {number}.", f"It is the letter {number}."]


def row(number: int) -> dict[str, Any]:
    """By turns: text only, a path, a URL, messages with a path."""
    content = [
        {"type": "image_url", "image_url": {"url": "pictures/red.png"}},
        {"type": "text", "text": QUESTION},
    ]
    forms: list[dict[str, Any]] = [
        {"prompt": QUESTION},
        {"prompt": QUESTION, "images": ["pictures/red.png"]},
        {"prompt": QUESTION, "images": [data_url(png())]},
        {"messages": [{"role": "user", "content": content}]},
    ]
    return {"id": f"row {number}", **forms[number % 4], "responses": responses(number)}


def write(folder: Path, rows: Sequence[Any]) -> tuple[Path, Path]:
    """The input's path and the output's."""
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return source, folder / "answers.jsonl"


def vlrm(command: str, url: str, files: tuple[Path, Path], *flags: str) -> int:
    source, output = map(str, files)
    return cli.main([command, "--url", url, "--input", source, "--output", output, *flags])


def lines(output: Path) -> dict[Any, Any]:
    """By id; a row that was written twice is a failure."""
    found = [json.loads(line) for line in output.read_text().splitlines()]
    by_id = {line["id"]: line for line in found}
    assert len(by_id) == len(found)
    return by_id


def test_every_row_gets_the_scorers_scores(
    server: ServerProcess, scorer: Scorer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write(folder, [row(number) for number in range(12)])
    assert vlrm("score", server.url, files, "--concurrency", "4") == 0
    written = lines(files[1])
    for number in range(12):
        group = asked(QUESTION, responses(number), *([png()] if number % 4 else []))
        scores = [one["score"] for one in written[f"row {number}"]["scores"]]
        assert scores == pytest.approx(scorer.score([group])[0], abs=CLOSE)
        assert written[f"row {number}"]["model"]["revision"] == scorer.info.revision
    assert "12/12 rows" in capsys.readouterr().err


def test_compare_and_rank(server: ServerProcess, scorer: Scorer, folder: Path) -> None:
    first, second = scorer.score([asked(QUESTION, responses(1))])[0]
    a, b = responses(1)
    files = write(folder, [{"id": 1, "prompt": QUESTION, "response_a": a, "response_b": b}])
    assert vlrm("compare", server.url, files) == 0
    assert lines(files[1])[1]["margin"] == pytest.approx(first - second, abs=CLOSE)
    files = write(folder, [row(0)])[0], folder / "ranked.jsonl"
    assert vlrm("rank", server.url, files) == 0
    assert lines(files[1])["row 0"]["best"] in (0, 1)


def test_a_run_goes_on_after_a_half_written_line(server: ServerProcess, folder: Path) -> None:
    files = write(folder, [row(number) for number in range(10)])
    assert vlrm("score", server.url, files) == 0
    whole, before = files[1].read_bytes(), counted(server, SCORES)
    ends = [at for at, byte in enumerate(whole) if byte == ord("\n")]
    files[1].write_bytes(whole[: ends[5] + 40])  # six whole lines and the start of the seventh
    assert vlrm("score", server.url, files) == 0
    assert files[1].read_bytes().startswith(whole[: ends[5] + 1])
    assert lines(files[1]).keys() == {f"row {number}" for number in range(10)}
    assert counted(server, SCORES) == before + 4
    assert vlrm("score", server.url, files) == 0
    assert counted(server, SCORES) == before + 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_stopped_run_loses_nothing(
    number: signal.Signals, code: int, server: ServerProcess, folder: Path
) -> None:
    files = write(folder, [row(number) for number in range(200)])
    command = [sys.executable, "-m", "service.cli", "score", "--url", server.url]
    command += ["--input", str(files[0]), "--output", str(files[1]), "--concurrency", "4"]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until_lines(files[1], 20)
    running.send_signal(number)
    told = running.communicate(timeout=30)[1]
    assert running.returncode == code
    assert "Traceback" not in told
    assert 20 <= files[1].read_bytes().count(b"\n") < 200
    assert vlrm("score", server.url, files) == 0
    assert lines(files[1]).keys() == {f"row {number}" for number in range(200)}


def until_lines(path: Path, number: int) -> None:
    end = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < number:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_failures_are_written_down_and_can_be_done_again(
    server: ServerProcess, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong: list[dict[str, Any]] = [
        {"id": "file", "prompt": "x", "images": ["none.png"], "responses": ["y"]},
        {"id": "picture", "prompt": "x", "images": ["rows.jsonl"], "responses": ["y"]},
        {"id": "empty", "prompt": "x", "responses": []},
        {"id": "long", "prompt": "word " * 50_000, "responses": ["y"]},
        {"id": "both", "prompt": "x", "messages": [], "responses": ["y"]},
        {"id": "missing", "prompt": "x"},
        {"id": "typo", "prompt": "x", "image": ["pictures/red.png"], "responses": ["y"]},
        {"id": "text", "prompt": "x", "responses": "y"},
    ]
    files = write(folder, [row(0), *wrong, row(1)])
    assert vlrm("score", server.url, files) == 1
    codes = {name: line.get("error", {}).get("code") for name, line in lines(files[1]).items()}
    of_rows = dict.fromkeys(("empty", "both", "missing", "typo", "text"), "invalid_input")
    of_rows |= {"file": "unreadable_file", "picture": "invalid_image", "long": "too_many_tokens"}
    assert codes == {"row 0": None, "row 1": None, **of_rows}
    assert lines(files[1])["long"]["error"]["request_id"]
    assert vlrm("score", server.url, files) == 1, "failed rows are still failed"
    assert "8 failed" in capsys.readouterr().err
    (folder / "none.png").write_bytes(png())
    write(folder, [row(0), wrong[0], row(1)])
    assert vlrm("score", server.url, files, "--retry-failed") == 0
    assert lines(files[1]).keys() == {"row 0", "row 1", "file"}


def test_columns_to_keep(server: ServerProcess, folder: Path) -> None:
    files = write(folder, [{**row(0), "source": "made up"}])
    assert vlrm("score", server.url, files, "--keep", "source") == 0
    assert lines(files[1])["row 0"]["kept"] == {"source": "made up"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"id": 1}\n{"id": 1}\n', "row 2: the id 1 is already that of"),
        ('{"id": 1}\n{"id": \n', "row 2 is not JSON"),
        ('{"prompt": "x"}\n', "row 1 needs an id"),
        ('{"id": true}\n', "row 1 needs an id"),
        ("[1]\n", "row 1 is not an object"),
    ],
)
def test_a_broken_file_is_refused_before_anything_is_asked(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    files[0].write_text(text)
    assert vlrm("score", "http://127.0.0.1:1", files) == 1
    assert words in capsys.readouterr().err
    assert not files[1].exists()


def test_a_server_that_is_down_fails_the_run_and_no_row(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write(folder, [row(0)])
    assert vlrm("score", f"http://127.0.0.1:{free_port()}", files, "--retries", "1") == 1
    assert "no server answers" in capsys.readouterr().err
    assert not files[1].exists()


def test_a_server_that_goes_away_ends_the_run_and_fails_no_row(folder: Path) -> None:
    files = write(folder, [row(number) for number in range(300)])
    with ServerProcess("--threads", "1") as first:
        command = [sys.executable, "-m", "service.cli", "score", "--url", first.url]
        command += ["--input", str(files[0]), "--output", str(files[1]), "--retries", "1"]
        running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        until_lines(files[1], 10)
        first.signal(signal.SIGKILL)
        told = running.communicate(timeout=60)[1]
    assert running.returncode == 1
    assert "no server answers" in told
    done = lines(files[1])
    assert 10 <= len(done) < 300
    assert not any("error" in line for line in done.values())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": "row 0", "verdict": "a"}\n', "not vlrm score's output"),
        ('{"id": "row 0"\n', "line 1 is not JSON"),
        (
            '{"id": "row 0", "model": {"revision": "older"}, "scores": []}\n',
            "holds answers of revision older",
        ),
    ],
)
def test_a_strange_output_is_never_added_to(
    line: str,
    words: str,
    server: ServerProcess,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = write(folder, [row(0)])
    files[1].write_text(line)
    assert vlrm("score", server.url, files) == 1
    assert words in capsys.readouterr().err
    assert files[1].read_text() == line


def test_parquet_without_pyarrow_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    files = tmp_path / "rows.parquet", tmp_path / "out.jsonl"
    assert vlrm("score", "http://127.0.0.1:1", files) == 1
    assert "pip install 'vlrm[parquet]'" in capsys.readouterr().err


def test_parquet(server: ServerProcess, folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = pytest.importorskip("pyarrow").Table
    picture = {"type": "image_url", "image_url": {"url": "pictures/red.png"}}
    messages = [{"role": "user", "content": [picture, {"type": "text", "text": QUESTION}]}]
    rows = [
        {"id": 1, "prompt": QUESTION, "images": [{"bytes": png()}], "responses": responses(1)},
        {"id": 2, "prompt": QUESTION, "responses": responses(1)},
        {"id": 3, "messages": messages, "responses": responses(1)},
    ]
    columns = {name: [row.get(name) for row in rows] for row in rows for name in row}
    files = folder / "rows.parquet", folder / "out.jsonl"
    parquet.write_table(table.from_pydict(columns), files[0])
    assert vlrm("score", server.url, files) == 0
    written = lines(files[1])
    assert written.keys() == {1, 2, 3}
    shown, not_shown, also_shown = (written[n]["usage"]["image_tokens"] for n in (1, 2, 3))
    assert shown == also_shown > 0 == not_shown
