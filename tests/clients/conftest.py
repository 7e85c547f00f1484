"""Other projects' own client code, loaded from `.clients` without what it would train with."""

import asyncio
import importlib.util
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import pytest_asyncio

from rm_core.scorer import Scorer
from tests.service.listening import listening
from tests.service.serving import Running

INSTALLED = Path(__file__).parents[2] / ".clients"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.clients)


@pytest.fixture(autouse=True)
def _clients(monkeypatch: pytest.MonkeyPatch) -> None:
    if not INSTALLED.is_dir():
        pytest.fail("the clients are not installed; run: make test-clients")
    # Last, so that everything both have is ours.
    monkeypatch.setattr(sys, "path", [*sys.path, str(INSTALLED)])


def loaded(path: str, name: str) -> Any:
    """A single file of another project as a module; its package's __init__ is not run."""
    spec = importlib.util.spec_from_file_location(name, INSTALLED / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def openrlhf(monkeypatch: pytest.MonkeyPatch) -> Any:
    """OpenRLHF's module with the remote reward client; only its logger is ours."""
    logs = SimpleNamespace(init_logger=logging.getLogger)
    monkeypatch.setitem(sys.modules, "openrlhf.utils.logging_utils", logs)
    return loaded("openrlhf/utils/agent.py", "openrlhf_agent")


# Imported at the top of verl's module for its workers, and not touched by its HTTP client.
ABSENT = (
    *("ray", "ray.actor", "omegaconf", "tensordict"),
    *("verl", "verl.protocol", "verl.single_controller.ray.base", "verl.trainer.ppo.reward"),
    *("verl.utils", "verl.utils.fs", "verl.utils.ray_utils"),
    "verl.experimental.reward_loop.reward_model",
)


@pytest.fixture
def verl(monkeypatch: pytest.MonkeyPatch) -> Any:
    """verl's reward loop module, its cluster libraries replaced by nothing in particular."""
    for name in ABSENT:
        monkeypatch.setitem(sys.modules, name, MagicMock())
    path = "verl/experimental/reward_loop/reward_loop.py"
    return loaded(path, "verl.experimental.reward_loop.reward_loop")


class ManagerBase:
    """verl's base class without its configuration library."""

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any) -> None:
        self.config, self.tokenizer, self.compute_score = config, tokenizer, compute_score
        self.loop = asyncio.get_running_loop()


@pytest.fixture
def verl_manager(monkeypatch: pytest.MonkeyPatch) -> Any:
    """verl's module with its naive reward manager."""
    package = "verl.experimental.reward_loop.reward_manager"
    for name in ("verl", "verl.utils.reward_score"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    as_is = SimpleNamespace(register=lambda name: lambda kind: kind)
    monkeypatch.setitem(sys.modules, package, as_is)
    base = SimpleNamespace(RewardManagerBase=ManagerBase)
    monkeypatch.setitem(sys.modules, f"{package}.base", base)
    return loaded(f"{package.replace('.', '/')}/naive.py", f"{package}.naive")


@pytest_asyncio.fixture
async def address(random_scorer: Scorer) -> AsyncIterator[tuple[Running, str]]:
    async with listening(random_scorer) as found:
        yield found
