"""The loop: what a run leaves behind, and that a resumed one ends where an uninterrupted one does."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from labelwise.errors import LabelwiseError
from labelwise.spec import TaggerSpec
from training.checkpoint import HISTORY_FILE, STATE_FILE, WEIGHTS_FILE, load_checkpoint, load_state
from training.config import TrainConfig
from training.data import LabelledData, decode_all, read_data
from training.loop import Trainer, predict
from training.metrics import evaluate, fit_thresholds


class Killed(BaseException):
    pass


class Interrupted(Trainer):
    """A run that is killed in its nth step, as by a signal: nothing gets to tidy up."""

    def __init__(self, *arguments: Any, step: int) -> None:
        super().__init__(*arguments)
        self._left = step

    def _step(self, batch: Any) -> float:
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
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in entries]


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
    assert {file.name for file in finished.iterdir()} == {WEIGHTS_FILE, "tagger.json", STATE_FILE, HISTORY_FILE}
    assert [entry["epoch"] for entry in history(finished)] == [1, 2, 3, 4]
    tagger, spec = load_checkpoint(finished)
    scores = predict(tagger, decode_all(data.val.files, spec.image), torch.device("cpu"))
    thresholds = fit_thresholds(scores, data.val.targets)
    assert spec.thresholds == pytest.approx(tuple(thresholds))
    assert spec.metrics == pytest.approx(evaluate(scores, data.val.targets, thresholds))
    assert spec.metrics["mAP"] == pytest.approx(max(entry["mAP"] for entry in history(finished)), abs=1e-4)
    assert (spec.labels, spec.data, spec.max_batch) == (data.labels, data.describe(), config.max_batch)


def test_stage_2_begins_with_the_averaged_weights(config: TrainConfig, data: LabelledData, tmp_path: Path):
    trainer = Interrupted(config, data, tmp_path, step=4)  # two epochs of two steps
    with pytest.raises(Killed):
        trainer.run()
    state = load_state(tmp_path)
    assert state is not None
    assert state["epoch"] == 2
    assert any(not torch.equal(state["model"][name], state["ema"][name]) for name in state["ema"])
    assert_same(trainer.model.state_dict(), state["ema"])
    assert_same(trainer.ema.module.state_dict(), state["ema"])


@pytest.mark.parametrize("step", [2, 4, 7], ids=["stage-1", "seam", "stage-2-amid-an-epoch"])
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
    assert TaggerSpec.read(tmp_path) == TaggerSpec.read(finished)
    assert metrics == TaggerSpec.read(finished).metrics


def test_resuming_a_finished_run_changes_nothing(
    finished: Path, config: TrainConfig, data: LabelledData, tmp_path: Path
):
    run = shutil.copytree(finished, tmp_path / "run")
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    assert Trainer(config, data, run).run() == TaggerSpec.read(finished).metrics
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before


def test_resuming_with_other_settings_or_data_is_refused(finished: Path, config: TrainConfig, data: LabelledData):
    with pytest.raises(LabelwiseError, match="trained with other settings"):
        Trainer(config.model_copy(update={"lr": 1e-4}), data, finished).run()
    fewer = LabelledData(data.labels, data.train.subset(range(15)), data.val)
    with pytest.raises(LabelwiseError, match="trained on other data"):
        Trainer(config, fewer, finished).run()


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0, "temperature": 1e-40},  # at once, from the contrastive loss
        {"lr": 1e30},  # a step later, from the weights
        {"lr": 1e30, "batch_size": 16},  # after the only step of an epoch, so evaluation meets it first
    ],
)
def test_a_loss_that_is_no_number_stops_the_run(
    change: dict[str, float], config: TrainConfig, data: LabelledData, tmp_path: Path
):
    with pytest.raises(LabelwiseError, match="epoch 1: lower `lr`"):
        Trainer(config.model_copy(update=change), data, tmp_path).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0, "contrastive_epochs": 1},
        {"epochs": 1, "contrastive_epochs": 0},
        {"epochs": 1, "contrastive_epochs": 0, "batch_size": 1000},
        {"epochs": 1, "contrastive_epochs": 0, "batch_size": 2, "warmup": 1 / 9},  # the warm-up is exactly one step
        {"epochs": 1, "contrastive_epochs": 0, "precision": "bf16"},
    ],
)
def test_unusual_settings_train(change: dict[str, Any], config: TrainConfig, data: LabelledData, tmp_path: Path):
    Trainer(config.model_copy(update=change), data, tmp_path).run()
    assert [entry["epoch"] for entry in history(tmp_path)] == [1]
