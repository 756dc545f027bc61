"""The benchmark of GPUs, on a CPU: that it runs to its end, and says what is missing."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.gpu.__main__ import Run, end_to_end
from benchmarks.gpu.multiply_adds import count
from benchmarks.gpu.report import report
from benchmarks.gpu.tasks import Results, Task, run_task
from tests.conftest import ROOT

FACTS = {"quick": False, "date": "2026-11-29", "minutes": 7.5}


def test_it_measures_every_part_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--quick", "--devices", "cpu", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["not_available"] == []
    rows: dict[str, list[dict]] = {}
    for row in found["rows"]:
        rows.setdefault(row["part"], []).append(row)
    assert {(row["tagger"], row["precision"]) for row in rows["engine"]} == {
        *(("everyday", precision) for precision in ("fp32", "fp16", "int8")),
        ("resnet50", "fp32"),
    }
    assert max(row["largest"] for row in rows["parity"] if row["precision"] == "fp32") < 1e-4
    assert 0 < max(row["largest"] for row in rows["parity"] if row["precision"] == "fp16") < 0.05
    assert [row["way"] for row in rows["end_to_end"]] == ["http"]
    assert all(row["images_per_second"] > 0 for row in (*rows["end_to_end"], *rows["training"], *rows["decoding"]))
    assert [(row["where"], row["scores_largest"], row["left_to_cpu"]) for row in rows["decoding"]] == [("cpu", 0, 0)]
    assert [row["disagreements"] for row in rows["damaged"]] == [0]
    assert len(rows["memory"]) == 8
    text = (tmp_path / "gpu.md").read_text()
    assert "**CPU only: this says nothing about a GPU**" in text
    assert "its numbers mean nothing" in text


@pytest.mark.parametrize("fault", ["", "there is no nvImageCodec"])
def test_decoding_on_the_gpu_is_measured_where_it_works(tmp_path: Path, fault: str) -> None:
    run = Run(tmp_path, Results(), ("cuda", "cpu"), has_triton=False, is_quick=True, nvjpeg_fault=fault)
    on_gpu = [task.title for task in end_to_end(run) if "gpu" in task.arguments]
    expected = ["decoding alone, on the GPU", "HTTP, cuda, 1 worker processes, photos decoded on the gpu"]
    assert on_gpu == ([] if fault else expected)
    assert run.results.missing == ([("end_to_end", "decoding on the GPU", fault)] if fault else [])


def test_a_task_that_fails_leaves_its_rows_and_its_reason(tmp_path: Path) -> None:
    results = Results()
    statement = """print('noise'); print('{"part": "engine", "batch": 1}'); raise ValueError('broken')"""
    for code, seconds in ((statement, 60), ("import time; time.sleep(600)", 1)):
        task = Task("engine", "everyday, cuda, fp16", "timeit", ["-n1", "-r1", code], seconds)
        run_task(task, results, tmp_path, time.monotonic() + 100)
    run_task(task, results, tmp_path, time.monotonic())
    assert results.rows == [{"part": "engine", "batch": 1}]
    assert [reason for _, _, reason in results.missing] == [
        "ValueError: broken (exit status 1)",
        "it took longer than 1 s",
        "the time for this part was over",
    ]


def test_the_report_of_a_gpu_shows_the_share_of_its_roofline() -> None:
    way = {"device": "cuda", "precision": "fp16"}
    engine = {"part": "engine", "tagger": "resnet50", **way, "p99_ms": 1.5, "at_once": 2}
    results = Results(
        [
            {**engine, "batch": 1, "images_per_second": 500.0},
            {**engine, "batch": 128, "images_per_second": 8000.0},
            {
                "part": "work",
                "tagger": "resnet50",
                "backbone": "resnet50",
                "multiply_adds": 4e9,
                "input_bytes": 150_528,
            },
            {"part": "roofline", **way, "multiply_adds_per_second": 4e13, "copied_bytes_per_second": 5e10},
        ],
        [("training", "resnet50 bf16", "it took longer than 60 s"), ("parity", "everyday, cuda, fp16", "a reason")],
    )
    text = report(FACTS, {"findings": [{"subject": "GPUs", "found": "NVIDIA H200", "works": None}]}, results)
    assert "GPU: NVIDIA H200." in text
    assert "| resnet50 | cuda | fp16 | 10000 | multiplying | 8000 | 128 | 80 % |" in text
    assert "- not available: resnet50 bf16: it took longer than 60 s" in text


def test_the_report_of_nothing_says_so() -> None:
    text = report(FACTS, {"findings": []}, Results(missing=[("doctor", "labelwise doctor", "it ended")]))
    assert "- not available: labelwise doctor: it ended" in text
    assert "CPU only" in text


def test_multiply_adds() -> None:
    def value(name: str, *shape: int | str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["maps"], group=2, pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("Flatten", ["maps"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights"], ["hidden"], transB=1),
            helper.make_node("MatMul", ["hidden", "last"], ["scores"]),
        ],
        "counted",
        [value("image", "batch", 4, 8, 8)],
        [value("scores", "batch", 3)],
        [
            numpy_helper.from_array(np.zeros(shape, np.float32), name)
            for name, shape in (("kernel", (6, 2, 3, 3)), ("weights", (10, 96)), ("last", (10, 3)))
        ],
    )
    assert count(helper.make_model(graph)) == 6 * 4 * 4 * 2 * 3 * 3 + 96 * 10 + 10 * 3
