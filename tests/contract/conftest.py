"""The wheel, built once from exactly what the image's build copies."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract import dockerfile

QUIET = ("--quiet", "--no-deps", "--disable-pip-version-check")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Never in the checkout: setuptools would leave build/ there and pack its stale files next time.
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in dockerfile.copied_from_context():
        origin = dockerfile.ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    command = [sys.executable, "-m", "pip", "wheel", *QUIET, "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(built), str(source)], check=True, cwd=built)
    (wheel,) = built.glob("vlrm-*.whl")
    return wheel


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", *QUIET, "--no-index"]
    subprocess.run([*command, "--target", str(folder), str(wheel)], check=True, cwd=folder)
    return folder
