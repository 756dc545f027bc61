"""examples/curl, run as it stands against a real Triton that has its HTTP port open."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT, free_port
from tests.export.test_real_triton import triton
from tests.polling import PATIENCE

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


@pytest.fixture(scope="module")
def http_url(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    options = ["--allow-http=true", "--http-address=127.0.0.1", f"--http-port={port}", "--load-model=scenes"]
    with triton(repository, tmp_path_factory.mktemp("triton"), *options):
        yield f"http://127.0.0.1:{port}"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", ROOT / "examples/curl/tag.sh", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


def test_curl_gets_the_gateways_best_labels(http_url: str, gateway_url: str, photos: list[Path]) -> None:
    answer = run(http_url, "scenes", *photos[:3])
    assert (answer.returncode, answer.stderr) == (0, "")
    for photo, line in zip(photos[:3], answer.stdout.splitlines(), strict=True):
        asked = httpx.post(f"{gateway_url}/v1/tag?scores=all", content=photo.read_bytes()).json()["scores"]
        (scores,) = json.loads(line)["outputs"]
        best = [text.split(":", 2) for text in scores["data"]]
        assert [label for _, _, label in best] == [entry["label"] for entry in asked[:3]]
        assert [float(score) for score, _, _ in best] == pytest.approx([e["score"] for e in asked[:3]], abs=1e-4)


def test_curl_says_what_is_wrong(http_url: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    answer = run(http_url, "scenes", broken)
    assert answer.returncode != 0
    assert "image 1 of 1: image_format_unsupported" in answer.stdout
    assert run(http_url).returncode == 2
