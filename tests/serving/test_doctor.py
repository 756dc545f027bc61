"""`labelwise doctor` is right about this machine."""

import importlib.metadata
import json
import os
import subprocess
import sys

import onnxruntime as ort
import pytest

from serving.doctor import examine
from tests.conftest import ROOT
from tests.labelwise.devices.test_choice import without_gpu
from tests.polling import PATIENCE


def doctor(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "labelwise", "doctor", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, object]]:
    answer = doctor("--json")
    assert answer.returncode == 0, answer.stderr
    return {finding["subject"]: finding for finding in json.loads(answer.stdout)["findings"]}


def test_it_tells_versions_cores_and_memory(found: dict[str, dict[str, object]]):
    assert str(found["ONNX Runtime"]["found"]).startswith(f"{ort.__version__}, built for ")
    assert f"Pillow {importlib.metadata.version('pillow')}" in str(found["decoders"]["found"])
    assert f"of the machine's {os.cpu_count()} can be used" in str(found["cores"]["found"])
    assert "GiB" in str(found["memory"]["found"])
    assert found["cpu"]["works"] is True


@without_gpu
def test_without_a_gpu_it_says_what_is_missing_and_what_to_do(found: dict[str, dict[str, object]]):
    for name in ("cuda", "tensorrt", "tensorrt-rtx", "nvjpeg"):
        assert found[name]["works"] is False
        assert "there is no NVIDIA driver (libcuda.so.1 is missing)" in str(found[name]["found"])
        assert "install NVIDIA's newest driver" in str(found[name]["remedy"])
    assert "cpu" in examine().serves_on


@without_gpu
@pytest.mark.parametrize("want", ["gpu", "cuda", "tensorrt", "tensorrt-rtx"])
def test_what_is_wanted_and_missing_is_an_error_in_one_line(want: str):
    answer = doctor("--want", want)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"labelwise: There is no {want} here: there is no NVIDIA driver")
    assert answer.stderr.count("\n") == 1
    assert "labelwise serve would run models on cpu" in answer.stdout


def test_a_triton_that_is_there_is_found(triton_arguments: dict[str, str]):
    answer = doctor("--want", "triton")
    assert answer.returncode == 0, answer.stderr
    assert "with the backends python" in " ".join(answer.stdout.split())
