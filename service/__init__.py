"""The HTTP service: async at the edge, one thread that owns the device, rm_core underneath."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("vlrm")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"
