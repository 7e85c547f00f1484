"""One error for all the ways a device runs out of memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames

import torch

from rm_core.errors import OutOfMemory

CPU_ALLOCATOR = "DefaultCPUAllocator"  # torch has no type of its own for the CPU's


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise OutOfMemory instead, after giving cached blocks back."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and CPU_ALLOCATOR not in str(error):
            raise
        # The frames of the failed pass hold its activations, and the next try needs their room.
        clear_frames(error.__traceback__)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise OutOfMemory(f"the forward pass did not fit into memory: {error}") from error
