"""Lets torchvision's ordinary wheel import beside torch for CPU: declares its compiled operators.

vLLM's picture processor needs torchvision, whose wheel on the package index is built for CUDA and
stops at import ("operator torchvision::nms does not exist"). None of those operators is called.
"""

import importlib.util
import re
from pathlib import Path
from typing import Any

import torch

OPERATOR = re.compile(r'"torchvision::(\w+)"|register_meta\("(\w+)"')


def declare() -> Any:
    """The library; the operators live as long as it does."""
    found = importlib.util.find_spec("torchvision")
    assert found is not None
    assert found.origin is not None
    text = (Path(found.origin).parent / "_meta_registrations.py").read_text()
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in sorted({one or other for one, other in OPERATOR.findall(text)}):
        library.define(f"{name}() -> ()")
    return library


KEPT = declare()
