"""The loop: what a run leaves behind, and that a resumed one ends where an uninterrupted one does."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing import event_accumulator

from labelwise.errors import LabelwiseError
from labelwise.spec import TrainedSpec
from training.checkpoint import (
    HISTORY_FILE,
    STAGE_1_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    load_checkpoint,
    load_state,
    rounded_to_half,
)
from training.config import TrainConfig
from training.data.eval_batches import EvalBatches
from training.data.labelled_data import LabelledData
from training.data.layouts import read_data
from training.evaluator import predict, sigmoid
from training.loop import Trainer
from training.metrics import evaluate, fit_thresholds, parse_objective
from training.run_log import TENSORBOARD_FOLDER
from training.signals import Stopped


class Killed(BaseException):
    pass


class Interrupted(Trainer):
    """A run that is killed in its nth step, as by SIGKILL: nothing gets to tidy up."""

    def __init__(self, *arguments: Any, step: int) -> None:
        super().__init__(*arguments)
        self._left = step

    def _step(self, batch: Any) -> dict[str, float]:
        if not self._left:
            raise Killed
        self._left -= 1
        return super()._step(batch)


@pytest.fixture(scope="module")
def data(dataset: Path) -> LabelledData:
    return read_data(dataset)


@pytest.fixture(scope="module")
def finished(config: TrainConfig, data: LabelledData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    Trainer(config, data, out).run()
    return out


def history(run: Path) -> list[dict[str, float]]:
    entries = [json.loads(line) for line in (run / HISTORY_FILE).read_text().splitlines()]
    timing = ("seconds", "images_per_second")
    return [{key: value for key, value in entry.items() if key not in timing} for entry in entries]


def assert_same(actual: Any, expected: Any, where: str = "state") -> None:
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys(), where
        for key in expected:
            assert_same(actual[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected), where
        for index, pair in enumerate(zip(actual, expected, strict=True)):
            assert_same(*pair, f"{where}.{index}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(actual, expected), where
    else:
        assert actual == expected, where


def test_a_run_leaves_exactly_what_was_scored(finished: Path, data: LabelledData, config: TrainConfig):
    files = {WEIGHTS_FILE, "tagger.json", STAGE_1_FILE, STATE_FILE, HISTORY_FILE, TENSORBOARD_FOLDER}
    assert {file.name for file in finished.iterdir()} == files
    entries = history(finished)
    assert [(entry["epoch"], entry["stage"]) for entry in entries] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    for entry in entries:
        assert ("contrast" in entry) == (entry["stage"] == 2)
        assert entry["loss"] == pytest.approx(entry["bce"] + entry.get("contrast", 0), abs=1e-4)
    tagger, spec = load_checkpoint(finished)
    scores = sigmoid(predict(tagger, EvalBatches(data.val, spec.image, 3)))
    thresholds = fit_thresholds(scores, data.val.targets, parse_objective("f1"))
    assert spec.thresholds == pytest.approx(tuple(thresholds))
    metrics = evaluate(scores, data.val.targets, thresholds)
    assert {name: spec.metrics[name] for name in metrics} == pytest.approx(metrics)
    assert spec.metrics["mAP"] == pytest.approx(max(entry["mAP"] for entry in entries), abs=1e-4)
    assert_same(tagger.state_dict(), rounded_to_half(tagger.state_dict()))
    assert tagger.temperature.item() == pytest.approx(spec.metrics["temperature"])
    assert (spec.labels, spec.data, spec.max_batch) == (data.labels, data.describe(), config.max_batch)


def test_tensorboard_reads_the_run(finished: Path):
    accumulator = event_accumulator.EventAccumulator(str(finished / TENSORBOARD_FOLDER)).Reload()
    assert {"loss", "bce", "contrast", "mAP", "lr"} <= set(accumulator.Tags()["scalars"])
    points = [(event.step, event.value) for event in accumulator.Scalars("mAP")]
    assert points == [(entry["epoch"], pytest.approx(entry["mAP"])) for entry in history(finished)]


def test_stage_2_begins_with_the_averaged_weights(config: TrainConfig, data: LabelledData, tmp_path: Path):
    trainer = Interrupted(config, data, tmp_path, step=4)  # two epochs of two steps
    with pytest.raises(Killed):
        trainer.run()
    state = load_state(tmp_path)
    assert state is not None
    assert state["epoch"] == 2
    assert any(not torch.equal(state["model"][name], state["ema"][name]) for name in state["ema"])
    assert_same(load_file(tmp_path / STAGE_1_FILE), state["ema"])
    assert_same(trainer.model.state_dict(), state["ema"])
    assert_same(trainer.ema.module.state_dict(), state["ema"])


@pytest.mark.parametrize("step", [2, 4, 7], ids=["stage-1", "seam", "stage-2-within-an-epoch"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    step: int, finished: Path, config: TrainConfig, data: LabelledData, tmp_path: Path
):
    with pytest.raises(Killed):
        Interrupted(config, data, tmp_path, step=step).run()
    torch.manual_seed(step)  # a new process has another state
    np.random.seed(step)
    metrics = Trainer(config, data, tmp_path).run()
    assert history(tmp_path) == history(finished)
    assert_same(load_state(tmp_path), load_state(finished))
    assert_same(load_file(tmp_path / WEIGHTS_FILE), load_file(finished / WEIGHTS_FILE))
    assert TrainedSpec.read(tmp_path) == TrainedSpec.read(finished)
    assert metrics == TrainedSpec.read(finished).metrics


class StoppedByHand(Trainer):
    """A run that gets a signal in its nth step."""

    def __init__(self, *arguments: Any, step: int, number: signal.Signals) -> None:
        super().__init__(*arguments)
        self._left, self._number = step, number

    def _step(self, batch: Any) -> dict[str, float]:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), self._number)
        return super()._step(batch)


@pytest.fixture(scope="module")
def uninterrupted(
    request: pytest.FixtureRequest, config: TrainConfig, data: LabelledData, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainConfig, Path]:
    """A whole run with everything that a stopped one has to remember."""
    loss = {"memory": 4, "memory_confidence": 0, "prototype_weight": 0.1, "absent_negatives": 2}
    memory_format = {"mulcon": "channels_last", "supcon": "contiguous"}[request.param]
    changes = {"method": request.param, "loss": loss, "memory_format": memory_format}
    config = TrainConfig.model_validate(config.model_dump() | changes)
    run = tmp_path_factory.mktemp("uninterrupted")
    Trainer(config, data, run).run()
    return config, run


@pytest.mark.parametrize(
    ("uninterrupted", "step", "number"),
    [
        *(("mulcon", step, signal.SIGINT) for step in (1, 2, 4)),
        *(("mulcon", 5, signal.SIGTERM), ("supcon", 7, signal.SIGINT)),
    ],
    indirect=["uninterrupted"],
)
def test_a_signal_saves_and_the_run_goes_on_within_the_epoch(
    step: int, number: signal.Signals, uninterrupted: tuple[TrainConfig, Path], data: LabelledData, tmp_path: Path
):
    config, whole = uninterrupted
    handler = signal.getsignal(number)
    with pytest.raises(Stopped, match=rf"Stopped in epoch {(step + 1) // 2} after step {2 - step % 2}; .*--resume"):
        StoppedByHand(config, data, tmp_path, step=step, number=number).run()
    assert signal.getsignal(number) is handler
    torch.manual_seed(step)
    Trainer(config.model_copy(update={"workers": 1, "cache": "none"}), data, tmp_path).run()
    assert history(tmp_path) == history(whole)
    assert_same(load_state(tmp_path), load_state(whole))
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == (whole / WEIGHTS_FILE).read_bytes()


def test_resuming_a_finished_run_changes_nothing(
    finished: Path, config: TrainConfig, data: LabelledData, tmp_path: Path
):
    run = shutil.copytree(finished, tmp_path / "run")
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    assert Trainer(config, data, run).run() == TrainedSpec.read(finished).metrics
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()} == before


def test_resuming_with_other_settings_or_data_is_refused(finished: Path, config: TrainConfig, data: LabelledData):
    with pytest.raises(LabelwiseError, match="trained with other settings"):
        Trainer(config.model_copy(update={"lr": 1e-4}), data, finished).run()
    fewer = LabelledData(data.labels, data.train.subset(range(15)), data.val)
    with pytest.raises(LabelwiseError, match="trained on other data"):
        Trainer(config, fewer, finished).run()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        # at once, from the contrastive loss
        ({"epochs": 0, "loss": {"temperature": 1e-40}}, "loss became nan in epoch 1, batch 1 of 2"),
        ({"lr": 1e30}, "loss became nan in epoch 1, batch 2 of 2"),  # a step later, from the weights
        # after the only step of an epoch, so evaluation meets it first
        ({"lr": 1e30, "batch_size": 16}, "weights became useless in epoch 1, batch 1 of 1"),
    ],
)
def test_a_loss_that_is_no_number_stops_the_run(
    change: dict[str, Any], place: str, config: TrainConfig, data: LabelledData, tmp_path: Path
):
    with pytest.raises(LabelwiseError, match=f"The {place}.*Lower `lr`"):
        Trainer(TrainConfig.model_validate(config.model_dump() | change), data, tmp_path).run()
    assert [file.name for file in tmp_path.iterdir()] == [TENSORBOARD_FOLDER]


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(
    config: TrainConfig, data: LabelledData, tmp_path: Path
):
    config = config.model_copy(update={"contrastive_lr": 1e30})
    with pytest.raises(LabelwiseError, match="epoch 3, batch 2"):
        Trainer(config, data, tmp_path).run()
    assert [entry["epoch"] for entry in history(tmp_path)] == [1, 2]
    assert load_state(tmp_path)["epoch"] == 2
    assert load_checkpoint(tmp_path)[1].metrics["mAP"] > 0


def test_a_full_disk_is_one_line(config: TrainConfig, data: LabelledData, tmp_path: Path):
    """A file system of 64 KiB: room for the first files, none for the weights."""
    small = tmp_path / "small"
    small.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        with pytest.raises(LabelwiseError, match=r"cannot be written: No space left on device; make room"):
            Trainer(config, data, small).run()
        assert not list(small.glob(".*"))
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0, "contrastive_epochs": 1},
        {"epochs": 1, "contrastive_epochs": 0},
        {"epochs": 1, "contrastive_epochs": 0, "batch_size": 1000},
        {"epochs": 1, "contrastive_epochs": 0, "batch_size": 2, "warmup": 1 / 9},  # the warm-up is exactly one step
        {"epochs": 1, "contrastive_epochs": 0, "precision": "bf16"},
        {"epochs": 1, "contrastive_epochs": 0, "precision": "fp16"},
        {"epochs": 0, "contrastive_epochs": 1, "accumulate": 4, "contrastive_optimizer": "sgd"},
        {"epochs": 1, "contrastive_epochs": 0, "thresholds": "precision=0.9", "optimizer": "sgd"},
    ],
)
def test_unusual_settings_train(change: dict[str, Any], config: TrainConfig, data: LabelledData, tmp_path: Path):
    Trainer(config.model_copy(update=change), data, tmp_path).run()
    assert [entry["epoch"] for entry in history(tmp_path)] == [1]


@pytest.mark.parametrize("method", ["bce", "supcon", "label-bce"])
@pytest.mark.parametrize("head", ["label-attention", "ml-decoder"])
def test_every_method_trains_both_stages(
    method: str, head: str, config: TrainConfig, data: LabelledData, tmp_path: Path
):
    model = config.model.model_copy(update={"head": head})
    Trainer(config.model_copy(update={"method": method, "model": model}), data, tmp_path).run()
    tagger, spec = load_checkpoint(tmp_path)
    assert spec.output_names == (("scores", "embeddings", "attention") if method == "label-bce" else ("scores",))
    assert tagger.label_level == (method == "label-bce")
    assert (spec.attention_grid is None) == (spec.embedding_dim is None) == (method != "label-bce")
    assert ["contrast" in entry for entry in history(tmp_path)] == [False, False, *[method == "supcon"] * 2]


def test_accumulated_parts_make_the_gradient_of_the_whole(config: TrainConfig, data: LabelledData, tmp_path: Path):
    """Of the classification loss and with layer norms; contrast and batch norms rightly see one part at a time."""
    model = config.model.model_copy(update={"backbone": "test_convnext", "dropout": 0.0, "drop_path": 0.0})
    plain = config.model_copy(update={"model": model, "method": "label-bce", "epochs": 0, "clip_norm": 1e9})
    pixels = torch.randint(0, 256, (8, 2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    targets = torch.from_numpy(data.train.targets[:8])
    gradients = []
    for parts in (1, 4):
        trainer = Trainer(plain.model_copy(update={"accumulate": parts}), data, tmp_path)
        trainer._step((pixels, targets))
        gradients.append([p.grad for p in trainer.model.parameters() if p.grad is not None])
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-4)
