"""Reading and writing checkpoints: completely or not at all."""

from rm_core.checkpoints.load import Checkpoint, load
from rm_core.checkpoints.save import save

__all__ = ["Checkpoint", "load", "save"]
