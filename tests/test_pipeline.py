"""The whole way on a procedural data set: synth -> train -> export -> both engines -> HTTP, with the same answers."""

import csv
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from commands import app
from labelwise.image import load_pixels
from labelwise.spec import TrainedSpec
from tests.conftest import free_port, running_gateway
from training.checkpoint import load_checkpoint

# Seconds on one core: small pictures, a small backbone, both stages.
SETTINGS = {
    "image.height": 48,
    "image.width": 48,
    "model.backbone": "test_resnet",
    "model.dim": 64,
    "model.projection_dim": 32,
    "epochs": 6,
    "contrastive_epochs": 2,
    "batch_size": 16,
    "lr": 0.003,
    "augment.min_crop": 0.8,
    "augment.mixup": 0,
    "augment.randaugment_ops": 0,
    "workers": 0,
}


def labelwise(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data, run and repository of one pass through the command line."""
    folder = tmp_path_factory.mktemp("pipeline")
    labelwise("synth", folder / "data", "--count", 200, "--labels", 6, "--seed", 1)
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    labelwise("train", folder / "data", "--out", folder / "run", "--preset", "small", "--no-report", *settings)
    labelwise("export", folder / "run", "--to", folder / "repository", "--name", "shapes")
    return folder


@pytest.fixture(scope="module")
def pictures(folder: Path) -> list[Path]:
    with (folder / "data/labels.csv").open(newline="") as stream:
        names = [row["image"] for row in csv.DictReader(stream) if row["split"] == "val"]
    return [folder / "data/images" / name for name in names[:12]]


def test_training_learned_something_and_kept_its_history(folder: Path) -> None:
    spec = TrainedSpec.read(folder / "run")
    prevalence = np.mean([count / spec.data.train_images for count in spec.data.train_counts.values()])
    assert spec.metrics["mAP"] > prevalence + 0.2
    history = [json.loads(line) for line in (folder / "run/history.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in history] == list(range(1, 9))
    assert max(entry["mAP"] for entry in history) == pytest.approx(spec.metrics["mAP"], abs=1e-4)


@pytest.mark.parametrize("engine", ["embedded", "triton"])
def test_every_engine_answers_with_the_checkpoints_scores(
    folder: Path, pictures: list[Path], engine: str, request: pytest.FixtureRequest
) -> None:
    settings = {}
    if engine == "triton":  # on its own ports: the session's Triton may be running
        ports = {"triton_grpc_port": str(free_port()), "triton_metrics_port": str(free_port())}
        settings = request.getfixturevalue("triton_arguments") | ports
    with running_gateway("--repository", str(folder / "repository"), **settings) as (url, _):
        for picture in pictures:
            answer = httpx.post(f"{url}/v1/tag", content=picture.read_bytes(), params={"scores": "all"}).json()
            assert answer["model"] == "shapes"
            scores = {entry["label"]: entry["score"] for entry in answer["scores"]}
            assert scores == pytest.approx(pytorch_scores(folder / "run", picture), abs=1e-4)


def pytorch_scores(run: Path, picture: Path) -> dict[str, float]:
    tagger, spec = load_checkpoint(run)
    image = spec.image
    pixels = load_pixels(picture.read_bytes(), image.height, image.width, image.resize, image.interpolation)
    with torch.inference_mode():
        logits = tagger(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]).logits[0]  # h w c -> 1 c h w
    return dict(zip(spec.labels, logits.sigmoid().tolist(), strict=True))
