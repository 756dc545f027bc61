"""A run's precision and memory format: measured when it begins unless given, and kept when it is resumed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from labelwise.spec import TrainedSpec
from training import speed
from training.checkpoint import load_state
from training.config import TrainConfig
from training.device import has_bf16
from training.signals import Stopped
from training.speed import Choice, settle
from training.training_run import RunOptions, train_run

FP32, FP32_CONTIGUOUS = Choice("fp32", "channels_last"), Choice("fp32", "contiguous")
BF16, BF16_CONTIGUOUS = Choice("bf16", "channels_last"), Choice("bf16", "contiguous")


@pytest.fixture
def open_config(config: TrainConfig) -> TrainConfig:
    return config.model_copy(update={"precision": "auto", "memory_format": "auto"})


@pytest.fixture
def fastest(monkeypatch: pytest.MonkeyPatch) -> list[Choice]:
    """Measurements are replaced: the choice in this list is twice as fast as all others."""
    fast = [FP32]
    monkeypatch.setattr(speed, "_rates", lambda _, __, choices: {one: 10.0 * (1 + (one in fast)) for one in choices})
    monkeypatch.setattr(speed, "has_bf16", lambda _: True)
    return fast


def test_what_is_left_open_is_measured(open_config: TrainConfig):
    config, said = settle(open_config, 6, [])
    assert config.precision in ("fp32", "bf16") if has_bf16(torch.device("cpu")) else ("fp32",)
    assert config.memory_format in ("channels_last", "contiguous")
    assert said.startswith(f"Computes in {Choice(config.precision, config.memory_format)}: ")
    assert " images/s per core in a short test (" in said
    for name in ("channels last", "contiguous"):
        assert name in said
    assert config == open_config.model_copy(update=Choice(config.precision, config.memory_format)._asdict())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"precision": "fp16"}, ("fp16", "contiguous")),
        ({"precision": "bf16"}, ("bf16", "contiguous")),
        ({"memory_format": "channels_last"}, ("fp32", "channels_last")),
        ({"precision": "fp32", "memory_format": "channels_last"}, ("fp32", "channels_last")),
    ],
)
def test_what_is_given_stays(
    changes: dict[str, str], expected: tuple[str, str], open_config: TrainConfig, fastest: list[Choice]
):
    fastest[:] = [Choice("fp16", "contiguous"), BF16_CONTIGUOUS]
    config, _ = settle(open_config.model_copy(update=changes), 6, [])
    assert (config.precision, config.memory_format) == expected


def test_a_frozen_backbone_is_channels_last(open_config: TrainConfig):
    model = open_config.model.model_copy(update={"freeze": True})
    config, _ = settle(open_config.model_copy(update={"model": model}), 6, [])
    assert config.memory_format == "channels_last"


def test_only_a_clear_advantage_counts():
    """So chance does not decide between two that are alike."""
    assert speed._fastest({FP32: 10, FP32_CONTIGUOUS: 10.9, BF16: 10.9, BF16_CONTIGUOUS: 10.9}) == FP32
    assert speed._fastest({FP32: 10, FP32_CONTIGUOUS: 11.1, BF16: 12, BF16_CONTIGUOUS: 12}) == FP32_CONTIGUOUS
    assert speed._fastest({FP32: 10, FP32_CONTIGUOUS: 9, BF16: 20, BF16_CONTIGUOUS: 21}) == BF16
    assert str(FP32_CONTIGUOUS) == "float32, contiguous"


def test_a_resumed_run_keeps_what_it_began_with(
    open_config: TrainConfig,
    fastest: list[Choice],
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    options = RunOptions(resume=True, report=False)
    fastest[:] = [BF16_CONTIGUOUS]
    train_run(dataset, tmp_path / "whole", open_config, options)
    with monkeypatch.context() as patched:
        patched.setattr("training.loop.any_of", lambda *_: True)  # as Ctrl-C
        with pytest.raises(Stopped):
            train_run(dataset, tmp_path / "run", open_config, options)
    assert "Computes in bfloat16, contiguous: 20.0 images/s" in capsys.readouterr().out
    fastest[:] = [FP32]
    train_run(dataset, tmp_path / "run", open_config, options)
    assert "Computes in bfloat16, contiguous, as before.\n" in capsys.readouterr().out
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "run")]
    assert weights[0] == weights[1]
    expected = BF16_CONTIGUOUS._asdict()
    state = load_state(tmp_path / "run")
    assert state is not None
    logged = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    for settings in (state["settings"], TrainedSpec.read(tmp_path / "run").training, *logged):
        assert {name: settings[name] for name in expected} == expected


def test_threads_that_wait_soon_let_others_work():
    inherited = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    shown = subprocess.run(
        [sys.executable, "-c", "import training.device"],
        env=inherited | {"OMP_DISPLAY_ENV": "verbose"},
        check=True,
        capture_output=True,
        text=True,
    ).stderr
    if "GOMP_SPINCOUNT" not in shown:
        pytest.skip("torch has another OpenMP here than GNU's")
    assert "GOMP_SPINCOUNT = '1000'" in shown


def test_how_soon_can_be_set():
    shown = subprocess.run(
        [sys.executable, "-c", "import os, training; print(os.environ['GOMP_SPINCOUNT'])"],
        env=os.environ | {"GOMP_SPINCOUNT": "77"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert shown == "77\n"
