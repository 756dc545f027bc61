"""What every test may ask for: real photographs, the bundled repository, and a real gateway process on it."""

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


def give_children_default_signals() -> None:
    """Lets every process that a test starts have SIGINT and SIGHUP as a terminal's programs have them.

    A shell starts a background job with SIGINT ignored, and nohup ignores SIGHUP; children inherit that. A handler is
    not inherited, and one that does nothing still ignores the signal here.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


give_children_default_signals()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First those that fork workers, for which a process must not have the threads that gRPC leaves behind yet.

    Then files by how few tests they have: those are the long ones, of which none may be left when all else is done.
    """
    counts = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[bool, int, str]:
        forks = item.path.match("tests/training/data/*.py") or item.path.match("tests/training/test_loop.py")
        return not forks, counts[item.path], str(item.path)

    items.sort(key=place)


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT / "model_repository"


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """The committed photographs, and more where the shared data set lies beside the project."""
    committed = sorted((ROOT / "tests/assets/photos").glob("*.jpg"))
    assert committed
    return committed + sorted((SHARED / "coco_tiny/val2017").glob("*.jpg"))[:8]


@pytest.fixture(scope="session")
def scenes() -> Path:
    """The data set of the bundled model; a fresh clone has none."""
    if not (SHARED / "scenes/labels.csv").is_file():
        pytest.skip("the natural-scene data set is not beside the project")
    return SHARED / "scenes"


@contextmanager
def running_gateway(*arguments: str, **settings: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A real `labelwise serve` process on a free port; yields its URL and the process, and stops it."""
    command = [sys.executable, "-m", "labelwise", "serve", "--port", "0", *arguments]
    environment = os.environ | {f"LABELWISE_{key.upper()}": value for key, value in settings.items()}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        ready = re.search(r"ready: (http://\S+)", line)
        assert ready, f"the gateway did not start: {line!r}, exit code {process.poll()}"
        yield ready[1], process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()
            process.stdout.close()


@pytest.fixture(scope="session")
def gateway_url() -> Iterator[str]:
    """The gateway as a user starts it: the bundled model, the embedded engine."""
    with running_gateway() as (url, _):
        yield url


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def triton_arguments() -> dict[str, str]:
    """Settings of a gateway that starts its own Triton on free ports; skips where there is no Triton."""
    if not shutil.which("tritonserver") and not importlib.util.find_spec("pytriton"):
        pytest.skip("no NVIDIA Triton here: the `triton` extra brings one for Python below 3.13 on x86-64 Linux")
    return {"engine": "triton", "triton_grpc_port": str(free_port()), "triton_metrics_port": str(free_port())}


@pytest.fixture(scope="session")
def triton_gateway_url(triton_arguments: dict[str, str]) -> Iterator[str]:
    with running_gateway(**triton_arguments) as (url, _):
        yield url
