"""`labelwise label-studio`: what it refuses, how it starts and how it ends."""

import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from labelwise.errors import LabelwiseError
from serving.label_studio.launch import BridgeOptions
from tests.conftest import ROOT
from tests.polling import PATIENCE

GOOD = {
    **dict.fromkeys(("model", "key", "studio_url", "studio_key", "password")),
    "server": "http://127.0.0.1:8000",
    "host": "127.0.0.1",
    "port": 9090,
    "photos_from": (),
}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"studio_url": "http://localhost:8080"}, "--label-studio-url and --label-studio-key are needed together"),
        ({"studio_url": "localhost:8080", "studio_key": "x"}, "--label-studio-url is written http://HOST:PORT"),
        ({"server": "grpc://127.0.0.1:8001"}, "--server is written http://HOST:PORT"),
        ({"photos_from": ("https://a.org/x",)}, "--photos-from: 'https://a.org/x' is not of the form"),
        ({"host": "0.0.0.0"}, "Others can reach 0.0.0.0: give --password"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(LabelwiseError) as caught:
        BridgeOptions(**{**GOOD, **options})  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_others_may_reach_it_with_a_password() -> None:
    BridgeOptions(**{**GOOD, "host": "0.0.0.0", "password": "s3cret"})  # type: ignore[arg-type]


def started(*options: str) -> tuple[str, "subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "labelwise", "label-studio", "--server", "http://127.0.0.1:9", "--port", "0"]
    process = subprocess.Popen(
        [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    ready = re.search(r"ready: (http://\S+)", process.stdout.readline())
    assert ready
    return ready[1], process


def test_it_starts_without_its_gateway_and_ends_with_sigterm() -> None:
    """Whoever starts the three programs need not mind their order."""
    url, process = started()
    assert httpx.get(f"{url}/health").json()["status"] == "UP"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "--label-studio-key" in errors  # there will be no lessons
    assert "Traceback" not in errors


def test_a_training_that_runs_does_not_hold_up_the_end() -> None:
    """Here Label Studio never answers; in two minutes the bridge would give up."""
    webhook = {"action": "START_TRAINING", "project": {"id": 1}}
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor() as pool:
        studio = f"http://127.0.0.1:{silent.getsockname()[1]}"
        url, process = started("--label-studio-url", studio, "--label-studio-key", "x")
        answer = pool.submit(httpx.post, f"{url}/webhook", json=webhook, timeout=PATIENCE)
        with silent.accept()[0]:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
        assert answer.result().status_code == 503
    assert process.returncode == 0
    assert "Traceback" not in errors
