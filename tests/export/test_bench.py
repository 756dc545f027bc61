"""`labelwise bench` on the test checkpoint: every precision at both batch sizes, in one table."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import export.bench
import export.checkpoint_graph
from commands import app
from labelwise.devices.choice import fault_of


@pytest.fixture(autouse=True)
def short(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rounds, and the checkpoint's true graph, exported once for all tests."""
    monkeypatch.setattr(export.checkpoint_graph, "write_onnx", lambda *arguments: shutil.copyfile(graph, arguments[-1]))
    monkeypatch.setattr(export.bench, "_SECONDS", 0.0)
    monkeypatch.setattr(export.bench, "_ROUNDS", 3)
    monkeypatch.setattr(export.bench, "BATCHES", (1, 4))


def test_each_precision_is_measured_at_each_batch_size(checkpoint: Path, photos: list[Path], tmp_path: Path):
    out = tmp_path / "table.md"
    arguments = ["bench", str(checkpoint), "--calibrate", str(photos[0].parent), "--threads", "1", "--out", str(out)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    machine, _, heading, _, *rows, _, note = out.read_text("utf-8").splitlines()
    assert "ONNX Runtime" in machine
    assert "| of fp32 |" in heading
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [(row[0], row[1]) for row in cells] == [(p, b) for b in ("1", "4") for p in ("fp32", "fp16", "int8")]
    assert [row[3] for row in cells if row[0] == "fp32"] == ["1.00", "1.00"]
    assert all(float(row[2]) > 0 and float(row[4]) <= float(row[5]) for row in cells)
    assert 0 < float(note.split()[7]) < 2
    assert "computes fp16 in fp32" in note
    for row in cells:
        assert row[2] in result.output


def test_an_unwritable_table_is_refused_first(checkpoint: Path, tmp_path: Path):
    result = CliRunner().invoke(app, ["bench", str(checkpoint), "--out", str(tmp_path / "nowhere/t.md")])
    assert str(result.exception) == f"There is no folder {tmp_path / 'nowhere'} to write t.md into."


def test_without_photos_there_is_no_int8(checkpoint: Path, tmp_path: Path):
    result = CliRunner().invoke(app, ["bench", str(checkpoint), "--out", str(tmp_path / "t.md")])
    assert result.exit_code == 0
    assert "int8" not in (tmp_path / "t.md").read_text("utf-8")


def test_a_device_that_does_not_work_is_refused_before_anything_slow(tmp_path: Path):
    if not fault_of("tensorrt-rtx"):
        pytest.skip("this machine has such a device")
    result = CliRunner().invoke(app, ["bench", str(tmp_path), "--device", "tensorrt-rtx"])  # where there is no run
    assert str(result.exception).startswith("--device tensorrt-rtx does not work here: ")
