"""One virtual environment for each peer, made from pinned lists; ours is never touched."""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

LISTS = Path(__file__).parent / "requirements"
DEFAULT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vlrm-bench"
CUDA = ("nvidia-", "cuda-", "triton=")


class EnvironmentFailed(Exception):
    """pip could not make it; the message holds its last words."""


def python_of(name: str, root: Path) -> Path:
    """The interpreter of environment `name` under `root`, installed first when its list changed."""
    listed = LISTS / f"{name}.txt"
    folder = root / name
    python, stamp = folder / "bin" / "python", folder / "installed"
    digest = hashlib.sha256(listed.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        _install(listed, folder, python)
        stamp.write_text(digest)
    return python


def _install(listed: Path, folder: Path, python: Path) -> None:
    """The lists are complete: without --no-deps pip would add what they leave out on purpose."""
    print(f"installing {listed.name} into {folder}", file=sys.stderr)
    refuse_cuda(listed.read_text())
    venv.create(folder, clear=True, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(listed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentFailed(f"{listed.name} was not installed: {done.stderr[-2000:]}")


def refuse_cuda(text: str) -> None:
    """Gigabytes that a CPU benchmark never loads must not slip into a list."""
    if wrong := [line for line in text.splitlines() if line.startswith(CUDA)]:
        raise EnvironmentFailed(f"remove {', '.join(wrong)}: the peers run on the CPU")
