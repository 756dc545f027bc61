"""`labelwise train`: nothing slow or lasting before settings, data and paths are right."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch._inductor.config import cpp

from labelwise.errors import DataError, LabelwiseError
from labelwise.spec import TaggerSpec
from training.checkpoint import load_state
from training.config import TrainConfig
from training.run import RunOptions, train_run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def short(config: TrainConfig) -> TrainConfig:
    return config.model_copy(update={"epochs": 1, "contrastive_epochs": 0})


def test_nothing_is_made_for_wrong_data(short: TrainConfig, tmp_path: Path):
    with pytest.raises(DataError):
        train_run(tmp_path / "nowhere", tmp_path / "run", short)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_reported_and_not_trained_over_but_resumed(dataset: Path, short: TrainConfig, tmp_path: Path):
    metrics = train_run(dataset, tmp_path / "run", short)
    assert (tmp_path / "run/report.html").is_file()
    before = (tmp_path / "run/model.safetensors").read_bytes()
    with pytest.raises(LabelwiseError, match="already holds a run: add --resume"):
        train_run(dataset, tmp_path / "run", short)
    assert train_run(dataset, tmp_path / "run", short, RunOptions(resume=True, report=False)) == metrics
    assert (tmp_path / "run/model.safetensors").read_bytes() == before


def test_a_damaged_state_is_one_line(dataset: Path, short: TrainConfig, tmp_path: Path):
    train_run(dataset, tmp_path / "run", short, RunOptions(report=False))
    state = tmp_path / "run/state.pt"
    whole = state.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"junk"):
        state.write_bytes(content)
        with pytest.raises(LabelwiseError, match=r"state\.pt is damaged: restore it"):
            train_run(dataset, tmp_path / "run", short, RunOptions(resume=True))


def test_a_folder_that_cannot_be_made_is_one_line(dataset: Path, short: TrainConfig, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(LabelwiseError, match="file"):
        train_run(dataset, tmp_path / "file", short)


def test_a_label_that_never_occurs_is_named_or_left_out(dataset: Path, short: TrainConfig, tmp_path: Path):
    data = shutil.copytree(dataset, tmp_path / "data")
    rows = (data / "labels.csv").read_text().splitlines()
    text = "\n".join(f"{row},{'unicorn' if not number else 0}" for number, row in enumerate(rows))
    (data / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=r"No photo to train on has the label unicorn: .*--drop-absent"):
        train_run(data, tmp_path / "run", short)
    assert not (tmp_path / "run").exists()
    train_run(data, tmp_path / "run", short, RunOptions(drop_absent=True, report=False))
    assert "unicorn" not in TaggerSpec.read(tmp_path / "run").labels


def test_a_machine_that_cannot_compile_is_one_line(
    dataset: Path, short: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cpp, "cxx", (None, "/nowhere/c++"))
    with pytest.raises(LabelwiseError, match=r"torch\.compile fails here \(.*compiler.*\): leave out --compile\."):
        train_run(dataset, tmp_path / "run", short.model_copy(update={"compile": True}))


def test_ctrl_c_in_a_terminal_saves_and_exits(dataset: Path, config: TrainConfig, tmp_path: Path):
    """To the whole process group, workers included, as a terminal sends it."""
    settings = tmp_path / "long.yaml"
    settings.write_text(config.model_copy(update={"epochs": 500, "workers": 1}).model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-m", "labelwise", "train", str(dataset), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*command, "--config", str(settings), "--no-report"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run/state.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"labelwise: Stopped in epoch \d+ after step \d; go on with --resume\.\n", errors)
    assert load_state(tmp_path / "run")["step"] > 0


def test_broken_photos_are_named_or_left_out(
    dataset: Path, short: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = shutil.copytree(dataset, tmp_path / "data")
    (data / "images/00010.jpg").write_bytes(b"no photo")
    (data / "images/00011.jpg").unlink()
    with pytest.raises(DataError, match=r"2 photos cannot be decoded: .*00010\.jpg .*00011\.jpg .*--skip-broken"):
        train_run(data, tmp_path / "run", short)
    train_run(data, tmp_path / "run", short, RunOptions(skip_broken=True, report=False))
    assert TaggerSpec.read(tmp_path / "run").data.train_images == 14
    assert "00011.jpg" in capsys.readouterr().out
