"""`labelwise label-studio`: what it refuses, how it starts and how it ends."""

import re
import signal
import subprocess
import sys

import httpx
import pytest

from labelwise.errors import LabelwiseError
from serving.label_studio.launch import BridgeOptions
from tests.conftest import ROOT

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


def test_it_starts_without_its_gateway_and_ends_with_sigterm() -> None:
    """Whoever starts the three programs need not mind their order."""
    command = [sys.executable, "-m", "labelwise", "label-studio", "--server", "http://127.0.0.1:9", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = re.search(r"ready: (http://\S+)", process.stdout.readline())
    assert ready
    assert httpx.get(f"{ready[1]}/health").json()["status"] == "UP"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "--label-studio-key" in errors  # there will be no lessons
    assert "Traceback" not in errors
