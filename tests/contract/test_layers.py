"""Imports point one way, and what must start fast imports no torch."""

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "rm_core": {
        *("service", "training", "fastapi", "uvicorn", "prometheus_client", "httpx", "asyncio"),
    },
    "service": {"training", "bench", "tests"},
    "bench": {"tests"},
    "training": {"service", "fastapi", "uvicorn", "prometheus_client", "bench", "tests"},
}
TORCH_FREE = ("errors", "types", "chat", "calibration", "images", "positions", "encode", "golden")


def modules(package: str) -> dict[str, ast.Module]:
    files = (ROOT / package).rglob("*.py")
    return {_name(file): ast.parse(file.read_text()) for file in files}


def _name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module named in an import, TYPE_CHECKING and function bodies included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are absolute here"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_down(package: str) -> None:
    for name, tree in modules(package).items():
        roots = {module.split(".")[0] for module in imported(tree)}
        assert not FORBIDDEN[package] & roots, name


def test_the_core_reads_no_environment() -> None:
    for name, tree in modules("rm_core").items():
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        used |= {module.removeprefix("os.") for module in imported(tree)}
        assert not {"environ", "getenv"} & used, name


def test_only_two_modules_of_the_service_import_torch() -> None:
    importing = {
        name
        for name, tree in modules("service").items()
        if any(module.split(".")[0] == "torch" for module in imported(tree))
    }
    assert importing <= {"service.worker", "service.cli"}


def depends_on(tree: ast.Module, known: Collection[str]) -> set[str]:
    """Modules of `known` it needs; `from package import module` is the module, not its package."""
    needed = set(imported(tree)) & set(known)
    parents = {name.rpartition(".")[0] for name in needed}
    by_itself = {node.module for node in ast.walk(tree) if _takes_names(node, known)}
    return {name for name in needed if name not in parents or name in by_itself}


def _takes_names(node: ast.AST, known: Collection[str]) -> TypeGuard[ast.ImportFrom]:
    return isinstance(node, ast.ImportFrom) and any(
        f"{node.module}.{alias.name}" not in known for alias in node.names
    )


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_import_cycle(package: str) -> None:
    trees = modules(package)
    edges = {name: depends_on(tree, trees) - {name} for name, tree in trees.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in edges[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in trees:
        visit(name, ())


def test_adapters_import_where_only_a_trainer_is_installed() -> None:
    absent = ("torch", "transformers", "fastapi", "uvicorn", "prometheus_client", "tokenizers")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
    code += "import service.adapters.openrlhf, service.adapters.trl, service.adapters.verl"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_light_modules_import_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
    code += "\n".join(f"import rm_core.{name}" for name in TORCH_FREE)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


SERVER_ONLY = ("torch", "transformers", "tokenizers", "fastapi", "starlette", "uvicorn")


def test_the_client_and_its_commands_import_without_the_servers_packages() -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({SERVER_ONLY}))\n"
    code += "import service.client, service.bulk.run, service.cli\n"
    code += "service.client.RewardClient('http://localhost:1').close()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
