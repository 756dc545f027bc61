"""docs/label-studio.md with a real Label Studio: predictions, annotations, a lesson, better predictions.

Skipped without Label Studio. Its packages conflict with ours, so it lives in an environment of its own.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT, free_port, running_gateway
from tests.polling import PATIENCE, until

STUDIO = shutil.which(os.environ.get("LABEL_STUDIO", "label-studio"))
DOCUMENT = (ROOT / "docs/label-studio.md").read_text()
[EXAMPLE] = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, flags=re.MULTILINE | re.DOTALL)
TOKEN = re.search(r"--user-token (\w+)", DOCUMENT)[1]  # type: ignore[index]
SWITCHES = dict(re.findall(r"\b([A-Z_]+_(?:IP|ENABLED))=(false)\b", DOCUMENT))
QUIET = {"COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": ""}

pytestmark = pytest.mark.skipif(
    STUDIO is None, reason="no Label Studio: install it elsewhere, and name its program in LABEL_STUDIO"
)


@contextmanager
def running(command: list[str], environment: dict[str, str], url: str) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, start_new_session=True)

    def answers() -> bool:
        assert process.poll() is None, f"{command[0]} ended"
        try:
            return httpx.get(f"{url}/health").is_success
        except httpx.TransportError:
            return False

    try:
        until(answers)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def studio_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, data = free_port(), tmp_path_factory.mktemp("label-studio")
    command = [str(STUDIO), "start", "--no-browser", "--data-dir", str(data), "--port", str(port)]
    command += ["--internal-host", "127.0.0.1", "--username", "me@example.org", "--password", "studio-password"]
    command += ["--user-token", TOKEN, "--enable-legacy-api-token"]
    url = f"http://127.0.0.1:{port}"
    with running(command, SWITCHES | QUIET, url):
        yield url


@pytest.fixture(scope="module")
def personal_token(studio_url: str) -> str:
    answer = httpx.post(f"{studio_url}/api/token/", headers={"Authorization": f"Token {TOKEN}"})
    return str(answer.json()["token"])


def test_the_example_of_the_documentation(studio_url: str, personal_token: str, tmp_path: Path) -> None:
    """With a personal access token and a password, where the example has neither."""
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / "model_repository", repository)
    port = free_port()
    backend = f"http://labelwise:s3cret@127.0.0.1:{port}"
    with ExitStack() as opened:
        gateway, _ = opened.enter_context(running_gateway("--teach", repository=str(repository)))
        command = [sys.executable, "-m", "labelwise", "label-studio", "--server", gateway, "--port", str(port)]
        command += ["--label-studio-url", studio_url, "--label-studio-key", personal_token, "--password", "s3cret"]
        opened.enter_context(running(command, {}, backend))
        program = EXAMPLE.replace("http://localhost:8080", studio_url).replace("http://localhost:9090", backend)
        printed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [re.fullmatch(r"(everyday \d) \w{8}-(\S+) (\[.*])", line) for line in printed.stdout.splitlines()]
    said = {(row[1], row[2]): row[3] for row in rows if row}
    assert len(rows) == len(said) == 26
    assert said["everyday 1", "coffee-cup.jpg"] == "['Cup']"
    assert not [choices for (version, _), choices in said.items() if version == "everyday 1" and "country" in choices]
    taught = [photo for (version, photo), choices in said.items() if version == "everyday 2" and "country" in choices]
    assert len({"desert-pyramid.jpg", "mountains-path.jpg", "trees-forest-stream.jpg"} & {*taught}) >= 2
    assert "cat-face.jpg" not in taught
