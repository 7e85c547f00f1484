"""The built wheel carries everything a server needs that is not Python."""

import zipfile
from pathlib import Path

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


def test_the_wheel_is_whole(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= NEEDED, NEEDED - names
    assert not any(name.startswith(("tests/", "bench/")) for name in names)
