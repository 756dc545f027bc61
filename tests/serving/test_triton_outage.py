"""Triton stops and returns: the gateway reports it, stays up, and answers again without help."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.conftest import ROOT, free_port, running_gateway
from tests.polling import PATIENCE

PHOTO = (ROOT / "tests/assets/photos/trees-forest-stream.jpg").read_bytes()


def triton_below(gateway: int) -> int:
    """The process id of the Triton that the gateway started."""
    children = Path(f"/proc/{gateway}/task/{gateway}/children").read_text().split()
    (triton,) = [int(pid) for pid in children if "tritonserver" in Path(f"/proc/{pid}/cmdline").read_text()]
    return triton


def test_a_triton_that_is_killed_or_hangs_is_reported_soon_and_comes_back(triton_arguments: dict[str, str]) -> None:
    """The deadline of a request would be 120 s."""
    ports = {"triton_grpc_port": str(free_port()), "triton_metrics_port": str(free_port())}
    with (
        running_gateway(**triton_arguments | ports, request_timeout="120") as (url, process),
        httpx.Client(base_url=url, timeout=150) as client,
    ):
        before = client.post("/v1/tag", content=PHOTO).json()["tags"]
        os.kill(triton_below(process.pid), signal.SIGKILL)
        gone = client.post("/v1/tag", content=PHOTO)
        assert (gone.status_code, gone.json()["code"]) == (503, "engine_unavailable")
        assert gone.headers["retry-after"]
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/health/live").status_code == 200
        assert_it_comes_back(client, before)

        hung = triton_below(process.pid)
        os.kill(hung, signal.SIGSTOP)  # it accepts requests and answers none
        first, second = (client.post("/v1/tag", content=PHOTO) for _ in range(2))
        assert (first.status_code, first.json()["code"]) == (503, "engine_unavailable")
        assert first.elapsed.total_seconds() < 40
        assert second.status_code == 200 or second.elapsed.total_seconds() < 20
        assert_it_comes_back(client, before)
        assert triton_below(process.pid) != hung


def assert_it_comes_back(client: httpx.Client, before: object) -> None:
    deadline = time.monotonic() + 100
    while (after := client.post("/v1/tag", content=PHOTO)).status_code == 503:
        assert after.headers["retry-after"]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert after.json()["tags"] == before
    assert client.get("/v2/health/ready").status_code == 200


def test_a_triton_that_does_not_start() -> None:
    url = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "labelwise", "serve", "--port", "0", "--engine", "triton", "--triton-url", url]
    environment = os.environ | {"LABELWISE_START_TIMEOUT": "2"}
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=PATIENCE)
    assert result.returncode == 1
    *_, line = result.stderr.strip().splitlines()
    assert line.startswith("labelwise: ")
    assert url in line
    assert "Traceback" not in result.stderr
