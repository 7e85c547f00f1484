"""Programs from outside Python that some tests run for real."""

import os
import shutil

import pytest


def tool(name: str) -> str:
    """Its path. Missing on a developer's machine is a visible skip, in CI a failure."""
    path = shutil.which(name)
    if path is None and os.environ.get("CI"):
        pytest.fail(f"CI must install {name}")
    if path is None:
        pytest.skip(f"{name} is not installed (Debian packages prometheus and openssl)")
    return path
