"""Starting and stopping: a failed start is one line, and signals end the gateway properly."""

import io
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from serving.gateway.listener import announce, bind
from tests.conftest import ROOT, free_port, running_gateway


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labelwise", "serve", "--port", "0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def assert_one_line(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("labelwise: ")
    assert all(part in line for part in parts), line
    assert result.stdout == ""


@pytest.fixture
def broken(repository: Path, tmp_path: Path) -> Path:
    """A copy of the bundled repository, to break."""
    return Path(shutil.copytree(repository, tmp_path / "repository"))


def test_no_repository(tmp_path: Path) -> None:
    assert_one_line(
        serve("--repository", str(tmp_path / "nowhere")), "There is no model repository", "labelwise export"
    )
    assert_one_line(serve("--repository", str(tmp_path)), "holds no tagger", "labelwise export")


@pytest.mark.parametrize(
    "missing",
    [
        "scenes_model",
        "scenes_decode",
        "scenes_model/1/model.onnx",
        "scenes/1",
        "scenes/config.pbtxt",
        "scenes/tagger.json",
    ],
)
def test_half_a_repository(broken: Path, missing: str) -> None:
    path = broken / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert_one_line(serve("--repository", str(broken)), missing.removeprefix("scenes/1"), "scenes")


def test_half_a_repository_without_its_ensemble(broken: Path) -> None:
    shutil.rmtree(broken / "scenes")
    assert_one_line(serve("--repository", str(broken)), "scenes")


@pytest.mark.parametrize("folder", ["scenes", "scenes_model", "scenes/1"])
@pytest.mark.parametrize(
    ("old", "new", "field"),
    [('"max_batch": 32', '"max_batch": "many"', "max_batch"), ('"labels"', '"lables"', "labels"), ("{", "{,", "JSON")],
)
def test_wrong_field_in_tagger_json(broken: Path, folder: str, old: str, new: str, field: str) -> None:
    file = broken / folder / "tagger.json"
    file.write_text(file.read_text().replace(old, new, 1))
    assert_one_line(serve("--repository", str(broken)), field, "tagger.json")


def test_other_weights_than_exported(broken: Path) -> None:
    with (broken / "scenes_model/1/model.onnx").open("ab") as stream:
        stream.write(b"\0")
    assert_one_line(serve("--repository", str(broken)), "model.onnx")


def test_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_one_line(serve("--port", str(port)), f"127.0.0.1:{port}", "in use", "--port")


def test_wrong_settings() -> None:
    assert_one_line(serve("--port", "99999"), "port")
    assert_one_line(serve("--triton-url", "127.0.0.1:8001"), "triton_url", "--engine triton")


def test_wrong_settings_of_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry", reason="needs: pip install 'labelwise[otel]'")
    monkeypatch.setenv("LABELWISE_TRACE_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    assert_one_line(serve(), "OTEL_", "max_queue_size must be a positive integer")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_well(stop: signal.Signals) -> None:
    with running_gateway() as (url, process):
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200
        process.send_signal(stop)
        assert process.wait(15) == 0


def test_a_closed_output_does_not_end_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `labelwise serve | head -0`."""
    with Path("/dev/full").open("wb", buffering=0) as full, bind("127.0.0.1", 0) as listener:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(full, write_through=True))
        announce(listener)


def test_other_folders_in_the_repository_do_not_matter(broken: Path, triton_arguments: dict[str, str]) -> None:
    (broken / "notes").mkdir()
    (broken / ".staging-left-by-a-killed-export").mkdir()
    ports = {"triton_grpc_port": str(free_port()), "triton_metrics_port": str(free_port())}
    for settings in ({}, triton_arguments | ports):
        with running_gateway("--repository", str(broken), **settings) as (url, _):
            assert httpx.get(f"{url}/v2/health/ready").status_code == 200
