"""Fixtures for all tests: real photographs, the bundled repository, and a real gateway process that serves it."""

import atexit
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx
import pytest

from export.publish import publish, staging
from labelwise.repository import Repository
from tests.polling import PATIENCE

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


def give_children_default_signals() -> None:
    """Gives every process that a test starts the default SIGINT and SIGHUP, as in a terminal.

    A shell starts background jobs with SIGINT ignored, and nohup ignores SIGHUP; children inherit that. They do not
    inherit handlers, so an empty handler keeps ignoring the signal only here.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


give_children_default_signals()


def make_ssl_contexts_once() -> None:
    """Every httpx client, so every httpx.get() too, would read all authorities' certificates, which takes 25 ms."""
    make = httpx._transports.default.create_ssl_context

    @cache
    def make_once(file_of_environment: str | None, **arguments: object) -> object:
        return make(**arguments)

    def context(**arguments: object) -> object:
        return make_once(os.environ.get("SSL_CERT_FILE"), **arguments)

    httpx._transports.default.create_ssl_context = context


make_ssl_contexts_once()


def wait_for_answers() -> None:
    """Lets every httpx client wait longer than the five seconds of its default: two cores may be busy."""
    default = httpx._config.DEFAULT_TIMEOUT_CONFIG
    default.connect = default.read = default.write = default.pool = PATIENCE


wait_for_answers()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs tests that fork workers first: the process must not have the threads yet that gRPC leaves behind.

    Then come the files with the fewest tests: they take longest, so none of them should be left for the end.
    """
    counts = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[bool, int, str]:
        forks = item.path.match("tests/training/data/*.py") or item.path.match("tests/training/test_loop.py")
        return not forks, counts[item.path], str(item.path)

    items.sort(key=place)


def scenes_only() -> Path:
    """The bundled `scenes`, whose five labels the tests know."""
    return only_in_fp32("scenes")


@cache
def only_in_fp32(name: str) -> Path:
    """A repository with one of the bundled taggers, in fp32 only, so that its scores are known. Not to be changed."""
    folder = Path(tempfile.mkdtemp(prefix=f"labelwise-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    version = Repository.open(ROOT / "model_repository", only=name).taggers[name][1]
    with staging(folder) as stage:
        shutil.copyfile(version.weights, stage / version.weights.name)
        publish(folder, stage, version.spec.model_copy(update={"graphs": version.spec.graphs[:1]}), "onnxruntime")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    return scenes_only()


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """The committed photographs, and more if the shared data set is beside the project."""
    committed = sorted((ROOT / "tests/assets/photos").glob("*.jpg"))
    assert committed
    return committed + sorted((SHARED / "coco_tiny/val2017").glob("*.jpg"))[:8]


@pytest.fixture(scope="session")
def scenes() -> Path:
    """The data set of the bundled model, which a fresh clone does not have."""
    if not (SHARED / "scenes/labels.csv").is_file():
        pytest.skip("the natural-scene data set is not beside the project")
    return SHARED / "scenes"


@contextmanager
def running_gateway(*arguments: str, **settings: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Runs a real `labelwise serve` process on a free port, by default on `scenes_only`. Yields its URL and process."""
    command = [sys.executable, "-m", "labelwise", "serve", "--port", "0", *arguments]
    chosen = {f"LABELWISE_{key.upper()}": value for key, value in settings.items()}
    environment = os.environ | {"LABELWISE_REPOSITORY": str(scenes_only())} | chosen
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
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.stdout.close()


@pytest.fixture(scope="session")
def gateway_url() -> Iterator[str]:
    """A gateway as a user starts it, with the embedded engine and one bundled tagger, `scenes`."""
    with running_gateway() as (url, _):
        yield url


@pytest.fixture(scope="session")
def bundled_gateway_url() -> Iterator[str]:
    """A gateway with everything that is bundled, as `make serve` starts it."""
    with running_gateway(repository=str(ROOT / "model_repository")) as (url, _):
        yield url


@pytest.fixture(scope="session")
def exact_gateway_url() -> Iterator[str]:
    """A gateway with everything that is bundled, in fp32: its scores are the same on every machine."""
    with running_gateway("--precision", "fp32", repository=str(ROOT / "model_repository")) as (url, _):
        yield url


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def triton_arguments() -> dict[str, str]:
    """Settings of a gateway that starts its own Triton on free ports. Skips the test if there is no Triton."""
    if not shutil.which("tritonserver") and not importlib.util.find_spec("pytriton"):
        pytest.skip("no NVIDIA Triton here: the `triton` extra brings one for Python below 3.13 on x86-64 Linux")
    return {"engine": "triton", "triton_grpc_port": str(free_port()), "triton_metrics_port": str(free_port())}


@pytest.fixture(scope="session")
def triton_gateway_url(triton_arguments: dict[str, str]) -> Iterator[str]:
    with running_gateway(**triton_arguments) as (url, _):
        yield url


@pytest.fixture(scope="module")
def bundled_triton(triton_arguments: dict[str, str]) -> Iterator[tuple[str, str]]:
    """A gateway and its Triton with everything that is bundled. Yields the gateway's URL and the Triton's gRPC port."""
    ports = {"triton_grpc_port": str(free_port()), "triton_metrics_port": str(free_port())}
    settings = triton_arguments | ports | {"repository": str(ROOT / "model_repository")}
    with running_gateway(**settings) as (url, _):
        yield url, ports["triton_grpc_port"]
