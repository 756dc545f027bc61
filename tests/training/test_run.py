"""`labelwise train`: settings from text, and nothing slow or lasting before they and the data are right."""

from pathlib import Path

import pytest

from labelwise.errors import DataError, LabelwiseError
from training.config import TrainConfig
from training.run import make_config, train_run

TINY = [
    "model.backbone=test_resnet",
    "model.feature_level=2",
    "model.dim=16",
    "model.heads=2",
    "model.projection_dim=8",
    "image.height=32",
    "image.width=32",
    "epochs=1",
    "contrastive_epochs=0",
    "batch_size=8",
    "workers=0",
    "precision=fp32",
    "device=cpu",
]


def test_settings_are_typed_nested_and_the_last_one_counts():
    config = make_config(
        ["epochs=3", "model.pretrained=true", "augment.mixup=0", "lr=1e-2", "image.resize=crop", "epochs=4"]
    )
    assert (config.epochs, config.lr, config.image.resize) == (4, 0.01, "crop")
    assert config.model.pretrained is True
    assert config.augment.mixup == 0
    assert make_config(["model.pretrained=False"]) == make_config([]) == TrainConfig()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["epochs"], "'epochs' is not key=value"),
        (["=3"], "'=3' is not key=value"),
        (["epoch=3"], "epoch:"),
        (["model.dims=8"], "model.dims:"),
        (["model.dim=wide"], "model.dim:"),
        (["epochs=-1"], "epochs:"),
        (["precision=fp16"], "precision:"),
        (["lr=nan"], "lr:"),
        (["gamma=inf"], "gamma:"),
        (["epochs.more=3"], "epochs:"),
        (["epochs=3", "epochs.more=3"], "'epochs.more=3': epochs has no parts"),
        (["model=resnet10t"], "model:"),
        (["epochs=0", "contrastive_epochs=0"], "epochs"),
        (["model.dim=18"], "heads"),  # 4 heads cannot share 18 channels
    ],
)
def test_a_wrong_setting_is_named(settings: list[str], words: str):
    with pytest.raises(LabelwiseError) as caught:
        make_config(settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_made_for_wrong_settings_or_data(dataset: Path, tmp_path: Path):
    with pytest.raises(LabelwiseError, match="epoch:"):
        train_run(dataset, tmp_path / "run", ["epoch=3"])
    with pytest.raises(DataError):
        train_run(tmp_path / "nowhere", tmp_path / "run", TINY)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_trained_over_but_resumed(dataset: Path, tmp_path: Path):
    metrics = train_run(dataset, tmp_path / "run", TINY)
    before = (tmp_path / "run/model.safetensors").read_bytes()
    with pytest.raises(LabelwiseError, match="already holds a run: add --resume"):
        train_run(dataset, tmp_path / "run", TINY)
    assert train_run(dataset, tmp_path / "run", TINY, resume=True) == metrics
    assert (tmp_path / "run/model.safetensors").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_one_line(dataset: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(LabelwiseError, match="file"):
        train_run(dataset, tmp_path / "file", TINY)
