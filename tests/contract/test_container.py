"""The image without an engine: what it installs serves, and its own health check says so."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.contract import dockerfile

START_S = 120  # a loaded machine imports torch slowly


def environment(installed: Path, port: int) -> dict[str, str]:
    """Ours without its VLRM_ settings, then the image's; the wheel comes before any checkout."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("VLRM_")}
    image = {k: v for k, v in dockerfile.variables().items() if k.startswith("VLRM_")}
    return ours | image | {"VLRM_PORT": str(port), "PYTHONPATH": str(installed)}


def as_installed(installed: Path) -> list[str]:
    entry, *arguments = dockerfile.command()
    return [sys.executable, str(installed / "bin" / entry), *arguments]


def is_healthy(port: int) -> bool:
    """The image's own check, with the proxy a company's Docker hands to every container."""
    program, *arguments = dockerfile.healthcheck()
    assert program == "python"
    proxied = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "", "VLRM_PORT": str(port)}
    done = subprocess.run(
        [sys.executable, *arguments], env=os.environ | proxied, capture_output=True
    )
    return done.returncode == 0


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    # With a key: the test listens on every address for a moment, as the container does.
    file = tmp_path / "keys"
    file.write_text(f"test {hashlib.sha256(os.urandom(16)).hexdigest()}\n")
    return file


@contextmanager
def server(
    command: list[str], environ: dict[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, cwd=folder, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_S
    while not is_healthy(port):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()


def wait_until_ready(port: int, log: Path) -> None:
    """Ready is later than healthy: the embedded model has given its golden scores."""
    end = time.monotonic() + START_S
    while httpx.get(f"http://127.0.0.1:{port}/ready").status_code != 200:
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def test_what_the_image_installs_serves_from_another_folder(
    installed: Path, port: int, keys: Path, tmp_path: Path
) -> None:
    assert not is_healthy(port)
    environ = environment(installed, port) | {"VLRM_API_KEYS_FILE": str(keys)}
    with server(as_installed(installed), environ, tmp_path) as process:
        wait_until_healthy(process, port, tmp_path / "log")
        wait_until_ready(port, tmp_path / "log")
        process.send_signal(getattr(signal, dockerfile.last("STOPSIGNAL")))
        assert process.wait(30) == 0


def test_the_wheel_is_what_was_served(installed: Path, tmp_path: Path) -> None:
    code = "import rm_core, service; print(rm_core.__file__, service.__file__)"
    environ = environment(installed, 0)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=tmp_path, capture_output=True, text=True
    )
    assert all(file.startswith(str(installed)) for file in done.stdout.split()), done.stdout


def test_the_image_asks_who_may_come_in(installed: Path, port: int, tmp_path: Path) -> None:
    done = subprocess.run(
        as_installed(installed),
        env=environment(installed, port),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=START_S,
    )
    assert done.returncode == 1
    assert "allow_anonymous" in done.stderr


def test_the_build_is_sent_all_it_copies() -> None:
    assert set(dockerfile.copied_from_context()) <= dockerfile.sent_to_build()


def test_the_server_is_nobody_in_particular() -> None:
    words = [word for word, _ in dockerfile.instructions()]
    assert int(dockerfile.last("USER")) >= 10000
    assert words.index("USER") > max(i for i, word in enumerate(words) if word in {"FROM", "RUN"})
