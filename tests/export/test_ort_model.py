"""The program that runs a graph in Triton's Python backend."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from labelwise.spec import TaggerSpec
from tests.conftest import ROOT
from tests.polling import PATIENCE

# Milliseconds of CPU that the process takes in a fifth of a second after each run.
PROGRAM = """
import json, sys, time, types
from pathlib import Path
import numpy as np

import labelwise.precision

sys.modules["labelwise_precision"] = labelwise.precision  # which lies beside it in a repository
pb_utils = sys.modules["triton_python_backend_utils"] = types.ModuleType("pb_utils")
pb_utils.Logger = types.SimpleNamespace(log_info=lambda text: None)
from export.triton_models.ort_model import TritonPythonModel

model = TritonPythonModel()
config = json.dumps({"name": "scenes_model", "input": [{"name": "image"}], "instance_group": [{"count": 1}]})
place = {"model_repository": sys.argv[1], "model_version": "1", "model_instance_kind": "CPU"}
model.initialize({"model_config": config, **place})
pixels = np.zeros((1, *json.loads(sys.argv[2])), np.uint8)
for _ in range(7):
    model._session.run(["scores"], {"image": pixels})
    before = time.process_time()
    time.sleep(0.2)
    print(1000 * (time.process_time() - before))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one core, ONNX Runtime has no threads of its own")
def test_onnx_runtimes_threads_rest_between_runs(repository: Path) -> None:
    """By default they spin for some 40 ms after each run, and take the cores from decoding."""
    arguments = (str(repository / "scenes_model"), json.dumps(TaggerSpec.read(repository / "scenes").input.shape))
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert statistics.median(map(float, done.stdout.split())) < 10
