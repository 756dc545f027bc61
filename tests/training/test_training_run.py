"""`labelwise train`: nothing slow or lasting before settings, data and paths are right."""

import fcntl
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from torch._inductor import config as inductor
from torch._inductor.config import cpp

from labelwise.errors import DataError, LabelwiseError
from labelwise.spec import TrainedSpec
from tests.polling import PATIENCE, until
from training.checkpoint import load_checkpoint, load_state
from training.config import TrainConfig
from training.data.layouts import read_data
from training.loop import Trainer
from training.training_run import RunOptions, prepare_data, train_run

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


def test_files_of_others_in_the_folder_are_left_alone(dataset: Path, short: TrainConfig, tmp_path: Path):
    kept = {".env.2024", ".photo.1.jpg", ".state.pt.old", "notes.txt"}
    for name in kept:
        (tmp_path / name).touch()
    (tmp_path / ".cache.1").mkdir()
    (tmp_path / ".state.pt.123-0a1b2c3d").touch()  # of a run that was killed
    train_run(dataset, tmp_path, short, RunOptions(report=False))
    assert {*kept, ".cache.1", "state.pt"} <= {file.name for file in tmp_path.iterdir()}
    assert not (tmp_path / ".state.pt.123-0a1b2c3d").exists()


def test_a_damaged_state_is_one_line(dataset: Path, short: TrainConfig, tmp_path: Path):
    train_run(dataset, tmp_path / "run", short, RunOptions(report=False))
    state = tmp_path / "run/state.pt"
    whole = state.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    other = io.BytesIO()
    torch.save([1, 2], other)
    for content in (whole[: len(whole) // 2], b"", b"junk", bytes(flipped), other.getvalue()):
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
    assert "unicorn" not in TrainedSpec.read(tmp_path / "run").labels


def test_a_machine_that_cannot_compile_is_one_line(
    dataset: Path,
    short: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(cpp, "cxx", (None, "/nowhere/c++"))
    monkeypatch.setattr(inductor, "compile_threads", 1)  # no processes to compile in, which would all import torch
    shallow = short.model.model_copy(update={"feature_level": 0})  # a small graph, as tracing it takes the time
    compiled = short.model_copy(update={"compile": True, "method": "bce", "model": shallow})
    with pytest.raises(LabelwiseError, match=r"torch\.compile fails here \(.*compiler.*\): leave out --compile\."):
        train_run(dataset, tmp_path / "run", compiled)
    assert "The first steps compile the model, which takes minutes on a CPU." in capsys.readouterr().out


def test_a_signal_saves_and_exits(dataset: Path, config: TrainConfig, tmp_path: Path):
    """To the whole process group, workers included, as terminals and torchrun send it; and twice, as launchers do.

    Each signal alone: test_loop.py.
    """
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
    until((tmp_path / "run/state.pt").is_file)
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE)
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
    assert TrainedSpec.read(tmp_path / "run").data.train_images == 14
    assert "00011.jpg" in capsys.readouterr().out


def test_what_breaks_before_the_first_step_leaves_no_run(dataset: Path, short: TrainConfig, tmp_path: Path):
    """As a broken shard does, which no check before the first epoch has read."""
    data = shutil.copytree(dataset, tmp_path / "data")
    trainer = Trainer(short.model_copy(update={"cache": "none"}), read_data(data), tmp_path)
    for photo in data.glob("images/*.jpg"):
        photo.write_bytes(b"no photo")
    with pytest.raises(DataError, match="Repair it, then train again"):
        trainer.run()
    assert not (tmp_path / "state.pt").exists()


def test_a_broken_photo_during_a_run_loses_nothing(
    dataset: Path, short: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = shutil.copytree(dataset, tmp_path / "data")
    uncached = short.model_copy(update={"epochs": 2, "cache": "none"})
    photo = data / "images/00010.jpg"
    whole = photo.read_bytes()
    trainer = Trainer(uncached, read_data(data), tmp_path)
    score = trainer._evaluate_and_keep
    monkeypatch.setattr(trainer, "_evaluate_and_keep", lambda: (photo.write_bytes(b"no photo"), score())[1])
    with pytest.raises(DataError, match=r"00010\.jpg .* go on with --resume"):
        trainer.run()
    photo.write_bytes(whole)
    assert load_state(tmp_path)["epoch"] == 1
    metrics = Trainer(uncached, read_data(data), tmp_path).run()
    untouched = tmp_path / "untouched"
    untouched.mkdir()
    assert Trainer(uncached, read_data(data), untouched).run() == metrics


def test_two_processes_do_not_train_in_one_folder(dataset: Path, short: TrainConfig, tmp_path: Path):
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(LabelwiseError, match="is being trained by another process"):
        train_run(dataset, tmp_path, short)
    os.close(folder)
    train_run(dataset, tmp_path, short, RunOptions(report=False))


def test_a_report_that_fails_does_not_hide_the_run(
    dataset: Path, short: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "run/report.html").mkdir(parents=True)  # in the report's way
    with pytest.raises(LabelwiseError, match=r"The run is complete, but its report failed: .* labelwise report "):
        train_run(dataset, tmp_path / "run", short)
    said = capsys.readouterr().out
    first = ["Read as a CSV list.\n6 labels, with their photos", "16 photos to train on, 4 for val", "Saved in"]
    places = [said.index(words) for words in first]  # what was read is said before it is trained on
    assert places == sorted(places)
    assert load_checkpoint(tmp_path / "run")[1].metrics["mAP"] > 0


def test_labels_that_val_lacks_are_said_or_refused(
    dataset: Path, short: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = read_data(dataset)
    rare = np.where(data.val.targets == 1, 0, data.val.targets)
    rare[0, 0] = 1
    prepare_data(replace(data, val=replace(data.val, targets=rare)), short, RunOptions())
    assert f"no photo of val has them: {', '.join(data.labels[1:])}." in capsys.readouterr().out
    nothing = replace(data, val=replace(data.val, targets=np.zeros_like(rare)))
    with pytest.raises(DataError, match="No photo of val has any of the labels"):
        prepare_data(nothing, short, RunOptions())


def test_what_needs_no_data_is_checked_first(short: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # its own tries take twenty seconds
    hub = short.model.model_copy(update={"backbone": "hf-hub:nobody/nothing"})
    for change, words in (
        ({"accumulate": 3}, "choose a multiple"),
        ({"device": "cuda:7"}, "cannot be used here"),
        ({"model": hub}, r"cannot be fetched: give a file with model\.weights=FILE"),
    ):
        with pytest.raises(LabelwiseError, match=words):
            train_run(tmp_path / "nowhere", tmp_path / "run", short.model_copy(update=change))
