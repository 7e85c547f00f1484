"""`vlrm export`: a checkpoint rewritten for another server."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str]) -> int:
    """Write the folder and say how to serve it."""
    words = argparse.ArgumentParser(prog="vlrm export", description=__doc__, allow_abbrev=False)
    words.add_argument("--to", required=True, metavar="TARGET", help="vllm")
    words.add_argument("checkpoint", metavar="DIR|HUB_ID")
    words.add_argument("folder", type=Path, help="a new folder")
    given = words.parse_args(argv)
    from rm_core.checkpoints.export import HINTS, export  # imports torch

    export(given.checkpoint, given.to, given.folder)
    print(f"{given.folder}: written. {HINTS[given.to].format(folder=given.folder)}")
    return 0
