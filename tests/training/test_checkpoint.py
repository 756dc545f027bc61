"""A run's folder: the same model comes back, and a folder that is not whole is refused."""

import errno
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import training.checkpoint
from labelwise.errors import LabelwiseError
from labelwise.files import sha256_of, write_atomically
from labelwise.spec import SPEC_FILE, DataSpec, TrainedSpec
from training.checkpoint import (
    WEIGHTS_FILE,
    load_checkpoint,
    load_state,
    make_spec,
    rounded_to_half,
    save_checkpoint,
    save_state,
    save_weights,
)
from training.config import TrainConfig
from training.model import TaggerNetwork

LABELS = ("a", "b")


def write_run(folder: Path, config: TrainConfig) -> TaggerNetwork:
    torch.manual_seed(3)
    tagger = TaggerNetwork(len(LABELS), config.image, config.model.model_copy(update={"pretrained": False}))
    data = DataSpec(fingerprint="f", train_images=2, val_images=1, train_counts={"a": 1, "b": 1})
    digest = save_weights(folder / WEIGHTS_FILE, tagger.state_dict())
    make_spec(config, LABELS, tagger.grid, data, [0.5, 0.5], {"mAP": 1.0}, digest).write(folder)
    return tagger.eval()


@pytest.mark.parametrize("pretrained", [False, True])  # loading must not ask timm's hub for weights it then replaces
def test_the_same_model_comes_back(pretrained: bool, config: TrainConfig, tmp_path: Path):
    config = config.model_copy(update={"model": config.model.model_copy(update={"pretrained": pretrained})})
    tagger = write_run(tmp_path, config)
    loaded, spec = load_checkpoint(tmp_path)
    assert not loaded.training
    assert TrainConfig.model_validate({**spec.training, "image": spec.image, "max_batch": spec.max_batch}) == config
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        for ours, theirs, tensor in zip(loaded(pixels), tagger(pixels), spec.outputs, strict=True):
            assert torch.equal(ours, theirs)
            assert ours.shape[1:] == tensor.shape
    assert {file.name for file in tmp_path.iterdir()} == {WEIGHTS_FILE, SPEC_FILE}


def test_rounded_weights_take_half_the_bytes_and_come_back(config: TrainConfig, tmp_path: Path):
    state = write_run(tmp_path, config).state_dict()
    rounded = rounded_to_half(state)
    bytes_of = {
        save_weights(tmp_path / WEIGHTS_FILE, each): (tmp_path / WEIGHTS_FILE).stat().st_size
        for each in (state, rounded)
    }
    matrices = sum(tensor.nbytes for tensor in state.values() if tensor.ndim > 1)
    whole, half = bytes_of.values()
    assert whole - half == pytest.approx(matrices / 2, rel=0.02)
    TrainedSpec.read(tmp_path).changed(weights_sha256=[*bytes_of][1]).write(tmp_path)
    loaded = load_checkpoint(tmp_path)[0].state_dict()
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor.half().float() if tensor.ndim > 1 else tensor)


def test_a_checkpoint_with_weights_in_full_is_read(config: TrainConfig, tmp_path: Path):
    state = rounded_to_half(write_run(tmp_path, config).state_dict())
    save_file(state, tmp_path / WEIGHTS_FILE)  # as older releases save it
    TrainedSpec.read(tmp_path).changed(weights_sha256=sha256_of(tmp_path / WEIGHTS_FILE)).write(tmp_path)
    loaded = load_checkpoint(tmp_path)[0].state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_a_weight_beyond_float16_stays_whole(tmp_path: Path):
    state = {"far": torch.tensor([[0.1, 70_000.0]]), "near": torch.tensor([[0.1, 7.0]]), "vector": torch.tensor([0.1])}
    rounded = rounded_to_half(state)
    assert torch.equal(rounded["far"], state["far"])
    assert torch.equal(rounded["vector"], state["vector"])
    assert torch.equal(rounded["near"], torch.tensor([[0.0999755859375, 7.0]]))
    save_weights(tmp_path / "weights", rounded)
    stored = load_file(tmp_path / "weights")
    assert {name: tensor.dtype for name, tensor in stored.items()} == {
        "far": torch.float32,
        "near": torch.float16,
        "vector": torch.float32,
    }


@pytest.mark.parametrize("gone", [WEIGHTS_FILE, SPEC_FILE])
def test_half_a_run_is_refused(gone: str, config: TrainConfig, tmp_path: Path):
    write_run(tmp_path, config)
    (tmp_path / gone).unlink()
    with pytest.raises(LabelwiseError, match="is not a trained run"):
        load_checkpoint(tmp_path)


def test_other_weights_than_the_contracts_are_refused(config: TrainConfig, tmp_path: Path):
    write_run(tmp_path, config)
    file = tmp_path / WEIGHTS_FILE
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(LabelwiseError, match=r"is not the file its tagger\.json describes"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"model": {"backbone": "test_resnet", "feature_level": 2, "dim": 24, "heads": 2}}, "does not fit"),
        ({"model": {"dim": "wide"}}, "training.model.dim"),
        ({}, "training.model"),
    ],
)
def test_a_contract_of_another_model_is_refused(
    training: dict[str, object], words: str, config: TrainConfig, tmp_path: Path
):
    write_run(tmp_path, config)
    content = json.loads((tmp_path / SPEC_FILE).read_text())
    TrainedSpec.model_validate(content | {"training": training}).write(tmp_path)
    with pytest.raises(LabelwiseError) as caught:
        load_checkpoint(tmp_path)
    assert words in str(caught.value)


def test_a_state_is_kept_when_the_next_one_cannot_be_written(tmp_path: Path):
    assert load_state(tmp_path) is None
    save_state(tmp_path, {"epoch": 1, "model": {"w": torch.ones(2)}})
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        save_state(tmp_path, {"epoch": lambda: 2})
    state = load_state(tmp_path)
    assert state is not None
    assert state["epoch"] == 1


@pytest.mark.parametrize("place", ["weights", "contract"])
def test_dying_while_saving_leaves_a_complete_checkpoint(
    place: str, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    torch.manual_seed(0)
    data = DataSpec(fingerprint="f", train_images=2, val_images=1, train_counts={"a": 1, "b": 1})
    make = partial(make_spec, config, LABELS, (4, 4), data, [0.5, 0.5], {"mAP": 1.0})
    first, second = (TaggerNetwork(len(LABELS), config.image, config.model).state_dict() for _ in range(2))
    save_checkpoint(tmp_path, first, make)
    writes = {"weights": WEIGHTS_FILE, "contract": SPEC_FILE}

    def dies(file: Path, content: bytes) -> None:
        if file.name == writes[place]:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(file, content)

    monkeypatch.setattr(training.checkpoint, "write_atomically", dies)
    with pytest.raises(LabelwiseError, match="No space left on device; make room"):
        save_checkpoint(tmp_path, second, make)
    monkeypatch.undo()
    assert_weights(tmp_path, first)
    save_checkpoint(tmp_path, second, make)
    assert_weights(tmp_path, second)
    assert {file.name for file in tmp_path.iterdir()} == {WEIGHTS_FILE, SPEC_FILE}


def assert_weights(run: Path, expected: dict[str, torch.Tensor]) -> None:
    loaded = load_checkpoint(run)[0].state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
