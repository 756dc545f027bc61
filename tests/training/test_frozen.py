"""A frozen backbone: its features are computed once, shared and recognised; only the head learns."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from labelwise.errors import LabelwiseError
from tests.training.test_loop import Interrupted, Killed, assert_same, history
from training.augment import make_transform
from training.checkpoint import WEIGHTS_FILE, load_checkpoint, load_state, rounded_to_half
from training.config import ModelConfig, TrainConfig
from training.data.eval_batches import EvalBatches
from training.data.labelled_data import LabelledData
from training.data.layouts import read_data
from training.data.train_loader import LoaderSettings, views_in_order
from training.distributed import World
from training.evaluator import predict, sigmoid
from training.frozen import FEATURES_FOLDER, FrozenLoader, frozen_batches
from training.loop import Trainer
from training.metrics import evaluate
from training.model import TaggerNetwork
from training.training_run import check_config

VIEWS = 3


def make_weights(file: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    save_file(timm.create_model("test_resnet").state_dict(), file)
    return file


@pytest.fixture(scope="module")
def frozen(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    weights = make_weights(tmp_path_factory.mktemp("weights") / "resnet.safetensors")
    model = config.model.model_copy(update={"freeze": True, "weights": weights})
    augment = config.augment.model_copy(update={"frozen_views": VIEWS})
    return config.model_copy(update={"model": model, "augment": augment})


@pytest.fixture(scope="module")
def data(dataset: Path) -> LabelledData:
    return read_data(dataset)


@pytest.fixture(scope="module")
def finished(frozen: TrainConfig, data: LabelledData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    Trainer(frozen, data, out).run()
    return out


def network(config: TrainConfig, data: LabelledData) -> TaggerNetwork:
    return TaggerNetwork(len(data.labels), config.image, config.model).eval()


def test_only_the_head_learns_and_the_checkpoint_is_the_whole_network(
    finished: Path, frozen: TrainConfig, data: LabelledData
):
    assert not (finished / FEATURES_FOLDER).exists()
    tagger, spec = load_checkpoint(finished)
    start = network(frozen, data)
    assert_same(
        tagger.backbone.state_dict(), rounded_to_half(start.backbone.state_dict())
    )  # batch norms' statistics, too
    assert not torch.equal(tagger.head.queries, start.head.queries)
    assert ["contrast" in entry for entry in history(finished)] == [False, False, True, True]
    scores = sigmoid(predict(tagger, EvalBatches(data.val, spec.image, 3)))
    metrics = evaluate(scores, data.val.targets, np.array(spec.thresholds))  # from the photos, not from features
    assert {name: spec.metrics[name] for name in metrics} == pytest.approx(metrics)
    assert spec.training["model"]["freeze"] is True


@pytest.mark.parametrize("step", [1, 7])
def test_a_killed_run_goes_on_with_the_features_it_has(
    step: int,
    finished: Path,
    frozen: TrainConfig,
    data: LabelledData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    with pytest.raises(Killed):
        Interrupted(frozen, data, tmp_path, step=step).run()
    monkeypatch.setattr("training.frozen._FeatureFiles._write", None)
    Trainer(frozen, data, tmp_path).run()
    assert history(tmp_path) == history(finished)
    assert_same(load_state(tmp_path), load_state(finished))
    assert_same(load_file(tmp_path / WEIGHTS_FILE), load_file(finished / WEIGHTS_FILE))
    assert not (tmp_path / FEATURES_FOLDER).exists()


def test_the_features_are_those_of_the_views(frozen: TrainConfig, data: LabelledData, tmp_path: Path):
    model = network(frozen, data)
    loader, val = frozen_batches(model, frozen, data, tmp_path, quiet=True)
    settings = LoaderSettings(frozen.image, make_transform(frozen.augment, frozen.image), 5, 0, seed=0)
    pixels = torch.cat(list(views_in_order(data.train, VIEWS, settings)))  # n v 3 h w
    with torch.inference_mode():
        expected = model.tokens(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
    kept = {tuple(target.tolist()): [] for target in torch.from_numpy(data.train.targets)}
    for tokens, targets in loader.epoch(0, VIEWS):
        for some, target in zip(tokens, targets, strict=True):
            kept[tuple(target.tolist())].append(some.sum(dim=(0, 1, 2)).item())
    for row, target in enumerate(data.train.targets):
        total = expected[row].sum().item()
        assert any(abs(value - total) < 2e-3 * abs(total) for value in kept[tuple(target.tolist())])
    logits = predict(model, EvalBatches(data.val, frozen.image, 64))
    np.testing.assert_allclose(predict(model, val), logits, atol=1e-6)


def test_an_epoch_takes_different_views_of_every_photo():
    features = np.arange(10 * 4, dtype=np.float16).reshape(10, 4, 1, 1)  # of photo p, view v: 4 p + v
    loader = FrozenLoader(features, np.arange(10, dtype=np.float32)[:, None], batch_size=3, seed=5)
    epochs = [list(loader.epoch(number, views=2)) for number in (0, 0, 1)]
    for batches in epochs:
        assert len(batches) == len(loader) == 3
        tokens, targets = (torch.cat(part) for part in zip(*batches, strict=True))
        assert torch.equal(tokens[:, :, 0, 0] // 4, targets.expand(-1, 2))
        assert len(targets.unique()) == 9
        assert (tokens[:, 0] != tokens[:, 1]).all()
    assert_same(epochs[1], epochs[0])
    assert not torch.equal(epochs[2][0][0], epochs[0][0][0])
    assert_same(list(loader.epoch(0, views=2, skip=2)), epochs[0][2:])


def test_features_of_another_backbone_or_damaged_ones_are_not_taken(
    frozen: TrainConfig, data: LabelledData, tmp_path: Path
):
    def first_of(config: TrainConfig) -> torch.Tensor:
        loader, _ = frozen_batches(network(config, data), config, data, tmp_path / "features", quiet=True)
        return next(loader.epoch(0, 1))[0]

    first = first_of(frozen)
    files = sorted((tmp_path / "features").iterdir())
    weights = make_weights(tmp_path / "other.safetensors", seed=1)
    model = frozen.model.model_copy(update={"weights": weights})
    assert not torch.equal(first_of(frozen.model_copy(update={"model": model})), first)
    augment = frozen.augment.model_copy(update={"min_crop": 0.9})
    assert not torch.equal(first_of(frozen.model_copy(update={"augment": augment})), first)
    assert len(list((tmp_path / "features").iterdir())) == len(files) + 3  # val has no augmentation
    for file in files:
        file.write_bytes(file.read_bytes()[:-1])
    assert torch.equal(first_of(frozen), first)


def test_a_backbone_from_nothing_and_several_processes_are_refused(frozen: TrainConfig):
    with pytest.raises(ValueError, match="freeze keeps the backbone as it starts: also set pretrained=true or weights"):
        ModelConfig(freeze=True)
    with pytest.raises(LabelwiseError, match=r"model\.freeze .*one process: leave out torchrun"):
        check_config(frozen, World(rank=0, size=2))
