"""The decoder gives an answer or an ImageError for damaged files of every kind, within its time and memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labelwise.image.budget import BYTES_PER_PIXEL
from tests.labelwise.image_fuzz import MAX_PIXELS
from tests.polling import PATIENCE

ROOT = Path(__file__).parent.parent.parent


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")


@pytest.fixture(scope="module")
def fuzzed() -> dict[str, object]:
    command = [sys.executable, str(Path(__file__).with_name("image_fuzz.py")), "200"]
    run = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == 0, f"exit code {run.returncode}: {run.stderr[-2000:]}"
    return json.loads(run.stdout)


def test_damaged_files_raise_nothing_but_image_errors(fuzzed: dict[str, dict[str, dict[str, int]]]):
    assert len(fuzzed["outcomes"]) >= 16
    for kind, outcomes in fuzzed["outcomes"].items():
        assert sum(outcomes.values()) == 200, kind
        assert sum(outcomes.values()) > outcomes.get("decoded", 0), f"nothing of {kind} was refused"


def test_no_damaged_file_takes_more_memory_than_a_whole_one_may(fuzzed: dict[str, int]):
    assert fuzzed["grown_bytes"] < MAX_PIXELS * BYTES_PER_PIXEL + 64 * 2**20  # and what the codecs keep
