"""What is committed speaks of the project alone, and fits in a clone."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Put together here, so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:wo" + "rk|ro" + r"ot|ho" + r"me/\w+)/\w")
HOSTS = re.compile(
    "pytho"
    + r"nhosted|py"
    + r"pi\.org|download\.pyt"
    + r"orch|registry\.(?:np"
    + "mjs|ya"
    + "rnpkg)"
    "|deb" + r"\.debian|archive\.ub" + "untu"
)
SECRETS = re.compile(
    r"AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22}|hf_[A-Za-z]{34}"
    r"|\bsk-[\w-]{32}|xox[abprs]-\d{9}|-----BEGIN [A-Z ]*PRIV" + "ATE KEY"
)
LARGEST_KB, MODEL = 4096, "rm_core/default_model/"


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def texts() -> list[tuple[str, str]]:
    found = []
    for file in tracked():
        data = file.read_bytes()
        if b"\0" not in data:
            found.append((str(file.relative_to(ROOT)), data.decode("utf-8")))
    return found


@pytest.mark.parametrize(
    "pattern", [MACHINE_PATHS, HOSTS, SECRETS], ids=["machine paths", "hosts", "secrets"]
)
def test_no_committed_text_holds(pattern: re.Pattern[str]) -> None:
    hits = [f"{name}: {hit[0]}" for name, text in texts() if (hit := pattern.search(text))]
    assert not hits


def test_no_file_is_larger_than_it_should_be() -> None:
    sizes = {file: file.stat().st_size // 1024 for file in tracked()}
    large = [str(f) for f, kb in sizes.items() if kb > LARGEST_KB and MODEL not in f.as_posix()]
    assert not large
    model = [kb for file, kb in sizes.items() if MODEL in file.as_posix()]
    assert 0 < sum(model) <= 25 * 1024


def test_ci_is_one_script_that_calls_the_words_people_use() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert {"make check", "make test"} <= set(script.read_text().splitlines())
