"""How fast the engine is on this device, at a known shape with random weights."""

from rm_core.enginebench.run import Plan, run

__all__ = ["Plan", "run"]
