"""Tagging by real servers: the same table from all, also when they die and return."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import free_port, running_gateway
from tests.polling import PATIENCE, until
from tests.serving.bulk.conftest import ROOT, Tag, assert_same, rows_of, tag_command


@pytest.fixture
def wanted(tag: Tag, photos: Path, tmp_path: Path):
    assert tag("photos", "--out", "embedded.parquet").returncode == 1
    return rows_of(tmp_path / "embedded.parquet")


@pytest.mark.parametrize(
    ("server", "more"),
    [("triton_url", ()), ("triton_url", ("--send", "bytes")), ("triton_gateway_url", ()), ("gateway_url", ())],
    ids=["pixels to Triton", "bytes to Triton", "gateway on Triton", "gateway"],
)
def test_every_kind_of_server_gives_the_same_table(
    server: str, more: tuple[str, ...], wanted, tag: Tag, tmp_path: Path, request: pytest.FixtureRequest
):
    url = request.getfixturevalue(server)
    answer = tag("photos", "--out", "t.parquet", "--server", url, "--model", "scenes", *more)
    assert answer.returncode == 1, answer.stderr
    assert_same(rows_of(tmp_path / "t.parquet"), wanted)


@contextmanager
def gateway_at(port: int) -> Iterator[subprocess.Popen[str]]:
    """A gateway at the port of another one."""
    with running_gateway("--port", str(port)) as (_, process):
        yield process


def test_a_server_that_dies_and_returns_loses_nothing(many: Callable[[int], Path], tmp_path: Path):
    many(150)
    port = free_port()
    with gateway_at(port) as first:
        run = start(tmp_path, "--server", f"http://127.0.0.1:{port}")
        until(lambda: (tmp_path / "t.parquet").exists() and run.poll() is None)
        time.sleep(0.4)
        first.kill()
        first.wait()
    time.sleep(1)
    assert run.poll() is None  # it waits
    with gateway_at(port):
        printed, said = run.communicate(timeout=PATIENCE)
    assert (run.returncode, "t.parquet has 150 rows" in printed) == (0, True), printed + said
    rows = rows_of(tmp_path / "t.parquet")
    assert len(rows) == 150
    assert not [row for row in rows.values() if row["error"]]


def test_patience_ends_and_the_run_goes_on_later(
    tag: Tag, many: Callable[[int], Path], gateway_url: str, tmp_path: Path
):
    many(120)
    with running_gateway() as (url, gateway):
        killer = threading.Thread(target=kill_after, args=(gateway, tmp_path / "t.jsonl"))
        killer.start()
        answer = tag("photos", "--out", "t.jsonl", "--server", url, "--patience", 0)
        killer.join()
    assert answer.returncode == 1
    assert "Run the same command again to continue" in answer.stderr
    done = len((tmp_path / "t.jsonl").read_text().splitlines())
    assert done < 120
    end = tag("photos", "--out", "t.jsonl", "--server", gateway_url)  # elsewhere: the output is what counts
    assert (end.returncode, f"{done} unchanged" in end.stdout or not done) == (0, True), end.stdout + end.stderr
    assert len((tmp_path / "t.jsonl").read_text().splitlines()) == 120


def kill_after(gateway: subprocess.Popen[str], file: Path) -> None:
    until(file.exists)
    time.sleep(0.3)
    gateway.kill()


def test_ctrl_c_twice_does_not_wait_for_a_server_that_is_away(many: Callable[[int], Path], tmp_path: Path):
    many(150)
    with running_gateway() as (url, gateway):
        run = start(tmp_path, "--server", url)
        until(lambda: (tmp_path / "t.parquet").exists() and run.poll() is None)
        gateway.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        run.send_signal(signal.SIGINT)
        time.sleep(0.3)
        run.send_signal(signal.SIGINT)
        printed, said = run.communicate(timeout=60)
        gateway.send_signal(signal.SIGCONT)
    assert (run.returncode, "Stopped" in printed, said.count("Stopping")) == (130, True, 1), printed + said
    assert len(rows_of(tmp_path / "t.parquet")) < 150


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        tag_command("photos", "--out", "t.parquet", *arguments),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_one_server_of_two_is_down(tag: Tag, many: Callable[[int], Path], gateway_url: str, tmp_path: Path):
    many(40)
    down = f"http://127.0.0.1:{free_port()}"
    answer = tag("photos", "--out", "t.csv", "--server", f"{down},{gateway_url}")
    assert (answer.returncode, "t.csv has 40 rows" in answer.stdout) == (0, True), answer.stderr


def test_a_key_of_the_environment_is_for_gateways(
    tag: Tag, photos: Path, triton_url: str, monkeypatch: pytest.MonkeyPatch
):
    command = ("photos", "--out", "t.csv", "--server", triton_url, "--model", "scenes")
    answer = tag(*command, "--key", "k")
    assert (answer.returncode, "Keys are the gateway's" in answer.stderr) == (1, True)
    monkeypatch.setenv("LABELWISE_KEY", "k")
    assert "t.csv has 10 rows" in tag(*command).stdout


@pytest.mark.parametrize("server", ["triton_url", "gateway_url"])
def test_a_server_without_the_model(
    server: str, tag: Tag, photos: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    url = request.getfixturevalue(server)
    answer = tag("photos", "--out", "t.csv", "--server", url, "--model", "pets")
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (1, "", 1)
    assert "model" in answer.stderr
    assert not (tmp_path / "t.csv").exists()


def test_an_unreachable_server_is_one_line(tag: Tag, photos: Path, tmp_path: Path):
    answer = tag(
        "photos", "--out", "t.csv", "--server", f"grpc://127.0.0.1:{free_port()}", "--model", "scenes", "--patience", 0
    )
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (1, "", 1), answer.stderr
    assert not (tmp_path / "t.csv").exists()
