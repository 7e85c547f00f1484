"""A folder or a hub id -> a local folder with the files of a checkpoint."""

from pathlib import Path

from rm_core.errors import CheckpointError

PATTERNS = ["*.json", "*.safetensors", "*.jinja", "README.md"]
DEFAULT = Path(__file__).parent.parent / "default_model"


def resolve(source: str | Path | None) -> Path:
    """None: the embedded default. A folder: itself. `org/name[@revision]`: from the hub."""
    if source is None:
        return DEFAULT
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise CheckpointError(f"{source}: no such folder, and not a hub id of the form org/name")
    return _download(str(source))


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = hub_id.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=PATTERNS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{hub_id}: cannot be fetched from the hub ({type(error).__name__}); "
            "check the name and the network, or give a local folder"
        ) from error
