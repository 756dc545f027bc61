"""Counts that are shared through files stay right on a full disk, and no process dies of it."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no disk space")

# Files may grow to `limit` bytes, which the kernel enforces as it does the end of a disk.
_COUNTING = """
import json, os, resource, signal, sys
folder, limit, series = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
from serving.gateway.observe.metrics import Metrics
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
metrics = Metrics()
for _ in range(2):
    for number in range(series):
        metrics.requests.labels(f"/{number}", "200").inc()
lines = metrics.exposition().decode().splitlines()
shared = [line for line in lines if line.startswith("labelwise_requests_total{")]
files = {name: os.stat(os.path.join(folder, name)) for name in os.listdir(folder)}
own = sum(metrics.requests.labels(f"/{number}", "200")._value.get() for number in range(series))
print(json.dumps({
    "shared": len(shared), "right": all(line.endswith(" 2.0") for line in shared), "own": own,
    "reserved": all(state.st_blocks * 512 >= state.st_size for state in files.values()), "files": sorted(files),
}))
"""


def count(folder: Path, limit: int, series: int) -> tuple[dict[str, object], str]:
    command = [sys.executable, "-c", _COUNTING, str(folder), str(limit), str(series)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(run.stdout), run.stderr


def test_files_are_reserved_to_their_last_block(tmp_path: Path):
    counted, log = count(tmp_path, resource.RLIM_INFINITY, 2000)  # several times what a file starts with
    assert (counted["shared"], counted["right"], counted["own"]) == (2000, True, 4000)
    assert counted["reserved"]
    assert {str(name).partition("_")[0] for name in counted["files"]} >= {"counter", "histogram"}  # type: ignore[attr-defined]
    assert log == ""


def test_counts_that_do_not_fit_stay_in_the_process(tmp_path: Path):
    counted, _ = count(tmp_path, 100_000, 2000)
    assert 0 < counted["shared"] < 2000  # type: ignore[operator]
    assert (counted["right"], counted["own"], counted["reserved"]) == (True, 4000, True)


def test_a_full_disk_shares_nothing_and_breaks_nothing(tmp_path: Path):
    counted, log = count(tmp_path, 1000, 20)
    assert (counted["shared"], counted["own"], counted["files"]) == (0, 40, [])
    assert "no room for shared counts" in log
