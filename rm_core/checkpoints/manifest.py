"""`vlrm.json`: what a checkpoint of ours promises about its own files and where it comes from."""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rm_core.calibration import Calibration
from rm_core.chat import TEMPLATE_DIGEST
from rm_core.errors import CheckpointError
from rm_core.images import PixelRules

FILE = "vlrm.json"
FORMAT = 1
CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Manifest:
    """Name, digests of every file, kind of head, calibration and lineage."""

    name: str
    files: dict[str, str]
    head: str | None = None  # None: written before there was a choice
    template_digest: str = TEMPLATE_DIGEST
    calibration: Calibration | None = None
    lineage: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=2)
        (folder / FILE).write_text(text + "\n")


def read(folder: Path) -> Manifest | None:
    """None for a checkpoint of another make. Ours is checked file by file."""
    if not (folder / FILE).exists():
        return None
    data = json.loads((folder / FILE).read_text())
    if data.pop("format") != FORMAT:
        raise CheckpointError(f"{folder}: {FILE} is of another format than {FORMAT}; update vlrm")
    calibration = data.pop("calibration")
    manifest = Manifest(
        **data, calibration=Calibration.from_json(calibration) if calibration else None
    )
    _check(folder, manifest)
    return manifest


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each named file, several at a time."""
    names = sorted(names)
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: _digest(folder / name), names), strict=True))


def revision(file_digests: dict[str, str], rules: PixelRules, dtype: str) -> str:
    """One digest over all that moves a score: weights, head, tokenizer, template, pixels, dtype."""
    parts = {
        "files": file_digests,
        "template": TEMPLATE_DIGEST,
        "pixels": asdict(rules),
        "dtype": dtype,
    }
    text = json.dumps(parts, sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _check(folder: Path, manifest: Manifest) -> None:
    if missing := [name for name in manifest.files if not (folder / name).exists()]:
        raise CheckpointError(f"{folder}: missing {', '.join(missing)}")
    found = digests(folder, manifest.files)
    if changed := [name for name, digest in manifest.files.items() if found[name] != digest]:
        raise CheckpointError(
            f"{folder}: {', '.join(changed)} changed since {FILE} was written; "
            "restore the files or export the checkpoint again"
        )
    if manifest.template_digest != TEMPLATE_DIGEST:
        raise CheckpointError(f"{folder}: written for another chat template; update vlrm")


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
    return "sha256:" + digest.hexdigest()
