"""Starting and stopping: a failed start is one line, and signals end the gateway properly."""

import io
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from serving.gateway.listener import announce, bind
from tests.conftest import ROOT, running_gateway
from tests.polling import PATIENCE
from tests.serving.gateway.conftest import Ended, assert_one_line


def test_no_repository(serve: Callable[..., Ended], tmp_path: Path) -> None:
    assert_one_line(
        serve("--repository", str(tmp_path / "nowhere")), "There is no model repository", "labelwise export"
    )
    assert_one_line(serve("--repository", str(tmp_path)), "holds no tagger", "labelwise export")


def test_a_failed_start_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "labelwise", "serve", "--port", "0", "--repository", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert_one_line(Ended(done.returncode, done.stdout, done.stderr), "holds no tagger", "labelwise export")


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
def test_half_a_repository(serve: Callable[..., Ended], broken: Path, missing: str) -> None:
    path = broken / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert_one_line(serve("--repository", str(broken)), missing.removeprefix("scenes/1"), "scenes")


def test_half_a_repository_without_its_ensemble(serve: Callable[..., Ended], broken: Path) -> None:
    shutil.rmtree(broken / "scenes")
    assert_one_line(serve("--repository", str(broken)), "scenes")


@pytest.mark.parametrize("folder", ["scenes", "scenes_model", "scenes/1"])
@pytest.mark.parametrize(
    ("old", "new", "field"),
    [('"max_batch": 32', '"max_batch": "many"', "max_batch"), ('"labels"', '"lables"', "labels"), ("{", "{,", "JSON")],
)
def test_wrong_field_in_tagger_json(
    serve: Callable[..., Ended], broken: Path, folder: str, old: str, new: str, field: str
) -> None:
    file = broken / folder / "tagger.json"
    file.write_text(file.read_text().replace(old, new, 1))
    assert_one_line(serve("--repository", str(broken)), field, "tagger.json")


def test_other_weights_than_exported(serve: Callable[..., Ended], broken: Path) -> None:
    with (broken / "scenes_model/1/model.onnx").open("ab") as stream:
        stream.write(b"\0")
    assert_one_line(serve("--repository", str(broken)), "model.onnx")


def test_port_in_use(serve: Callable[..., Ended]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_one_line(serve("--port", str(port)), f"127.0.0.1:{port}", "in use", "--port")


def test_wrong_settings(serve: Callable[..., Ended]) -> None:
    assert_one_line(serve("--port", "99999"), "port")
    assert_one_line(serve("--triton-url", "127.0.0.1:8001"), "triton_url", "--engine triton")


def test_wrong_settings_of_opentelemetry(serve: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry", reason="needs: pip install 'labelwise[otel]'")
    monkeypatch.setenv("LABELWISE_TRACE_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    assert_one_line(serve(), "OTEL_", "max_queue_size must be a positive integer")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_well(untidy: Path, stop: signal.Signals) -> None:
    with running_gateway("--repository", str(untidy)) as (url, process):
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200
        process.send_signal(stop)
        assert process.wait(PATIENCE) == 0


def test_a_closed_output_does_not_end_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `labelwise serve | head -0`."""
    with Path("/dev/full").open("wb", buffering=0) as full, bind("127.0.0.1", 0) as listener:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(full, write_through=True))
        announce(listener)
