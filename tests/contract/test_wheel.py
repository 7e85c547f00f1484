"""The built wheel carries everything a server needs that is not Python."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDED = {
    "rm_core/default_model/model.safetensors",
    "rm_core/default_model/value_head.safetensors",
    "rm_core/default_model/vlrm.json",
    "rm_core/default_model/golden.json",
    "rm_core/default_model/README.md",
    "service/static/playground.html",
    "training/recipes/tiny.yaml",
    "training/data/pictures/noto.png",
    "training/data/pictures/manifest.json",
}


def test_the_wheel_is_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("vlrm-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= NEEDED, NEEDED - names
    assert not any(name.startswith(("tests/", "bench/")) for name in names)
