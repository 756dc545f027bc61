"""Several processes behind one address: started together, kept alive, counted together, ended together."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from labelwise.errors import LabelwiseError
from serving.gateway.access.keys import add_key, revoke_key
from serving.gateway.supervisor import settings_of_each, supervise
from serving.settings import Settings
from tests.conftest import ROOT, free_port, running_gateway
from tests.polling import until
from tests.serving.gateway.conftest import Ended, assert_one_line
from tests.serving.raw_http import connect, read_to_the_end

PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()
PATIENCE = 90.0  # seconds


def children(pid: int) -> list[int]:
    """The workers of a gateway: the processes that it spawned, without the resource tracker."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def tagged(url: str) -> float:
    found = re.search(r"^labelwise_images_total\{.*\} (\S+)$", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0


def ask(url: str, count: int) -> list[int]:
    """The statuses of `count` requests, each on a separate connection, four at a time."""

    def one(_: int) -> int:
        return httpx.post(f"{url}/v1/tag", content=PHOTO, timeout=PATIENCE).status_code

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, range(count)))


def refused(url: str) -> bool:
    try:
        connect(url).close()
    except ConnectionRefusedError:
        return True
    return False


def test_workers_count_together_one_that_dies_is_replaced_and_all_end_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end, new connections are refused, and accepted requests answered."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running_gateway("--workers", "2") as (url, process):
        (folder,) = tmp_path.glob("labelwise-metrics-*")
        assert folder.stat().st_mode & 0o077 == 0
        first = children(process.pid)
        assert len(first) == 2
        assert ask(url, 12) == [200] * 12
        assert tagged(url) == 12
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(children(process.pid)) == 2 and first[0] not in children(process.pid))
        assert ask(url, 4) == [200] * 4
        assert tagged(url) == 16  # also what the dead one had counted
        in_flight = re.search(r"^labelwise_requests_in_flight (\S+)$", httpx.get(f"{url}/metrics").text, re.MULTILINE)
        assert in_flight
        assert float(in_flight[1]) == 0
        last = children(process.pid)
        with connect(url) as connection:
            head = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(PHOTO)
            connection.sendall(head + PHOTO[:1000])
            assert ask(url, 4) == [200] * 4
            for pid in (*last, process.pid):  # as when a terminal is closed
                os.kill(pid, signal.SIGHUP)
            until(lambda: refused(url))
            assert process.poll() is None
            connection.sendall(PHOTO[1000:])
            assert read_to_the_end(connection).startswith(b"HTTP/1.1 200")
        assert process.wait(PATIENCE) == 0
    assert not folder.exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in last)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))


def test_a_full_disk_for_the_counts_ends_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root alone")
    try:
        monkeypatch.setenv("TMPDIR", str(disk))
        with running_gateway("--workers", "2") as (url, process):
            first = children(process.pid)
            fill(disk)
            assert ask(url, 12) == [200] * 12
            for number in range(200):  # more series than fit into what is reserved
                httpx.get(f"{url}/v1/models/{number}")
            assert ask(url, 4) == [200] * 4
            assert httpx.get(f"{url}/metrics").status_code == 200
            assert children(process.pid) == first
    finally:
        subprocess.run(["umount", disk], check=True)


def test_no_folder_to_count_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with socket.socket() as listener, pytest.raises(LabelwiseError, match=r"folder for metrics: .* TMPDIR"):
        asyncio.run(supervise(Settings(workers=2), listener, on_ready=print))


def test_workers_read_changed_keys_and_end_with_their_parent(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    key = add_key(keys, "phone-app")
    with running_gateway("--workers", "2", "--keys", str(keys)) as (url, process):

        def statuses() -> set[int]:
            headers = {"X-API-Key": key}
            return {httpx.get(f"{url}/v1/models", headers=headers).status_code for _ in range(8)}

        assert statuses() == {200}
        revoke_key(keys, "phone-app")
        until(lambda: statuses() == {401})
        workers = children(process.pid)
        process.kill()
        process.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_workers_share_one_triton(triton_arguments: dict[str, str], untidy: Path) -> None:
    ports = {"triton_grpc_port": str(free_port()), "triton_metrics_port": str(free_port())}
    with running_gateway("--repository", str(untidy), "--workers", "2", **(triton_arguments | ports)) as (url, process):
        assert len(children(process.pid)) == 2
        assert ask(url, 6) == [200] * 6
        running = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in running]
        assert sum(b"tritonserver" in name.partition(b"\0")[0] for name in names) == 1


def test_a_failed_start_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "labelwise", "serve", "--port", "0", "--workers", "2"]
    command += ["--repository", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("labelwise: ")
    assert "holds no tagger" in line


def test_workers_share_the_cores_unless_threads_is_set() -> None:
    cores = Settings().threads
    assert settings_of_each(Settings(workers=1)).threads == cores
    assert settings_of_each(Settings(workers=2)).threads == max(1, cores // 2)
    assert settings_of_each(Settings(workers=200)).threads == 1
    assert settings_of_each(Settings(workers=2, threads=7)).threads == 7


@pytest.mark.parametrize("count", ["0", "many"])
def test_wrong_numbers_of_workers(serve: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    monkeypatch.setenv("LABELWISE_WORKERS", count)
    assert_one_line(serve(), "workers")
