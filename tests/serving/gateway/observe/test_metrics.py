"""The number of series is bounded, and counts that are shared through files stay right on a full disk."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from labelwise.spec import TaggerSpec
from serving.gateway.observe.metrics import Metrics
from tests.conftest import ROOT

reserves_disk_space = pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="this system reserves no disk space"
)

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
lines = metrics.exposition({}).decode().splitlines()
shared = [line for line in lines if line.startswith("labelwise_requests_total{")]
files = {name: os.stat(os.path.join(folder, name)) for name in os.listdir(folder)}
own = sum(metrics.requests.labels(f"/{number}", "200")._value.get() for number in range(series))
print(json.dumps({
    "shared": len(shared), "right": all(line.endswith(" 2.0") for line in shared), "own": own,
    "reserved": all(state.st_blocks * 512 >= state.st_size for state in files.values()), "files": sorted(files),
}))
"""

# A gateway that has seen four versions, of which two are still served.
_VERSIONS = """
import json, os, re, sys
if sys.argv[1]:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
import numpy as np
from labelwise.repository import Repository
from serving.gateway.observe.metrics import Metrics
from tests.conftest import ROOT
spec = Repository.open(ROOT / "model_repository").taggers["scenes"][1].spec
specs = {version: spec.model_copy(update={"version": version}) for version in range(1, 5)}
metrics = Metrics()
metrics.count_answer("/v1/tag", 200, 0.1)
for version in range(1, 5):
    metrics.of(specs[version]).count_answer(1, np.full((1, 5), 0.5, np.float32))
text = metrics.exposition({"scenes": {version: specs[version] for version in (3, 4)}}).decode()
requests = re.findall(r"labelwise_requests_total{.*} (.*)", text)
print(json.dumps({"versions": sorted(set(re.findall(r'version="(.+?)"', text))), "requests": float(requests[0])}))
"""


def count(folder: Path, limit: int, series: int) -> tuple[dict[str, object], str]:
    command = [sys.executable, "-c", _COUNTING, str(folder), str(limit), str(series)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(run.stdout), run.stderr


@reserves_disk_space
def test_files_are_reserved_to_their_last_block(tmp_path: Path):
    counted, log = count(tmp_path, resource.RLIM_INFINITY, 2000)  # several times what a file starts with
    assert (counted["shared"], counted["right"], counted["own"]) == (2000, True, 4000)
    assert counted["reserved"]
    assert {str(name).partition("_")[0] for name in counted["files"]} >= {"counter", "histogram"}  # type: ignore[attr-defined]
    assert log == ""


@reserves_disk_space
def test_counts_that_do_not_fit_stay_in_the_process(tmp_path: Path):
    counted, _ = count(tmp_path, 100_000, 2000)
    assert 0 < counted["shared"] < 2000  # type: ignore[operator]
    assert (counted["right"], counted["own"], counted["reserved"]) == (True, 4000, True)


@reserves_disk_space
def test_a_full_disk_shares_nothing_and_breaks_nothing(tmp_path: Path):
    counted, log = count(tmp_path, 1000, 20)
    assert (counted["shared"], counted["own"], counted["files"]) == (0, 40, [])
    assert "no room for shared counts" in log


def with_labels(count: int, version: int) -> TaggerSpec:
    scenes = TaggerSpec.read(ROOT / "model_repository/scenes")
    labels = tuple(f"label {number}" for number in range(count))
    return scenes.model_copy(update={"labels": labels, "thresholds": (0.5,) * count, "version": version})


@pytest.mark.parametrize("folder", ["", "shared"])
def test_only_versions_that_are_served_have_series(folder: str, tmp_path: Path):
    if folder:
        (tmp_path / folder).mkdir()
        folder = str(tmp_path / folder)
    run = subprocess.run(
        [sys.executable, "-c", _VERSIONS, folder], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout) == {"versions": ["3", "4"], "requests": 1}


def test_more_labels_than_can_be_counted_have_no_series_of_their_own():
    few, many = with_labels(500, version=1), with_labels(501, version=2)
    metrics = Metrics()
    for spec in (few, many):
        metrics.of(spec).count_answer(1, np.full((1, len(spec.labels)), 0.5, np.float32))
        metrics.count_run((spec.name, spec.version), 1)
    lines = metrics.exposition({few.name: {1: few, 2: many}}).decode().splitlines()
    series = {version: sum(f'version="{version}"' in line for line in lines) for version in (1, 2)}
    assert series == {1: 31 + 9 * 500, 2: 31}
