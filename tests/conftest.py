"""What every test may ask for: real photographs, the bundled repository, and a real gateway process on it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


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
