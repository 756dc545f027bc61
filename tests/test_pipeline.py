"""README's way from labels to a repository, on to both engines and HTTP, with the same answers."""

import csv
import json
import shlex
import shutil
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
from tests.test_readme import blocks
from training.checkpoint import load_checkpoint

# With these, the smallest network learns something in seconds.
SETTINGS = {
    "image": "{height: 48, width: 48}",
    "model": "{backbone: test_resnet, dim: 64, projection_dim: 32}",
    "augment": "{min_crop: 0.8, mixup: 0, randaugment_ops: 0}",
    "epochs": 6,
    "contrastive_epochs": 2,
    "batch_size": 16,
    "lr": 0.003,
    "precision": "fp32",
    "memory_format": "channels_last",
    "workers": 0,
}


def labelwise(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, run and repository, as README's commands make them in this folder."""
    folder = tmp_path_factory.mktemp("pipeline")
    (commands,) = [block for block in blocks("bash") if block.startswith("labelwise synth")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        printed = [labelwise(*shlex.split(command.removeprefix("labelwise "))) for command in commands.splitlines()]
    start, given, *_ = printed[1].splitlines()
    assert start == "Start: resnet10t with random weights."
    assert given.startswith("Input: 64x64 pixels; bicubic; mean 0.485, 0.456, 0.406;")
    assert (folder / "runs/shapes/report.html").is_file()
    assert " mAP " in printed[2]
    assert "Published shapes version 1 in runs/repository." in printed[3]
    return folder


@pytest.fixture(scope="module")
def pictures(folder: Path) -> list[Path]:
    with (folder / "data/shapes/labels.csv").open(newline="") as stream:
        names = [row["image"] for row in csv.DictReader(stream) if row["split"] == "val"]
    return [folder / "data/shapes/images" / name for name in names[:12]]


def test_training_learns_something_and_keeps_its_history(folder: Path, tmp_path: Path) -> None:
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    labelwise("train", folder / "data/shapes", "--out", tmp_path / "run", "--preset", "small", "--no-report", *settings)
    spec = TrainedSpec.read(tmp_path / "run")
    prevalence = np.mean([count / spec.data.train_images for count in spec.data.train_counts.values()])
    assert spec.metrics["mAP"] > prevalence + 0.2
    history = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in history] == list(range(1, 9))
    assert max(entry["mAP"] for entry in history) == pytest.approx(spec.metrics["mAP"], abs=1e-4)


def test_check_shows_everything_and_fails_if_something_is_wrong(folder: Path, tmp_path: Path) -> None:
    printed = labelwise("check", folder / "runs/repository")
    for word in ("config.pbtxt", "opset", "shapes version 1", "0 failed"):
        assert word in printed
    broken = shutil.copytree(folder / "runs/repository", tmp_path / "repository")
    (broken / "shapes_model/labels.txt").write_text("sea\n")
    result = CliRunner().invoke(app, ["check", str(broken)])
    assert (result.exit_code, result.stderr) == (1, "")
    configurations = [broken / "shapes_model/config.pbtxt", *broken.glob("shapes_model/configs/*.pbtxt")]
    assert f"{len(configurations)} failed" in result.output
    said = "failed: shapes_model: config.pbtxt: line 1 of labels.txt is 'sea', the contract says 'red circle'"
    assert said in result.output


@pytest.mark.parametrize("engine", ["embedded", "triton"])
def test_every_engine_answers_with_the_checkpoints_scores(
    folder: Path, pictures: list[Path], engine: str, request: pytest.FixtureRequest
) -> None:
    settings = {}
    if engine == "triton":  # on its own ports: the session's Triton may be running
        ports = {"triton_grpc_port": str(free_port()), "triton_metrics_port": str(free_port())}
        settings = request.getfixturevalue("triton_arguments") | ports
    with running_gateway("--repository", str(folder / "runs/repository"), **settings) as (url, _):
        for picture in pictures:
            answer = httpx.post(f"{url}/v1/tag", content=picture.read_bytes(), params={"scores": "all"}).json()
            assert answer["model"] == "shapes"
            scores = {entry["label"]: entry["score"] for entry in answer["scores"]}
            assert scores == pytest.approx(pytorch_scores(folder / "runs/shapes", picture), abs=1e-4)


def pytorch_scores(run: Path, picture: Path) -> dict[str, float]:
    tagger, spec = load_checkpoint(run)
    image = spec.image
    pixels = load_pixels(picture.read_bytes(), image.height, image.width, image.resize, image.interpolation)
    with torch.inference_mode():
        logits = tagger(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]).logits[0]  # h w c -> 1 c h w
    return dict(zip(spec.labels, logits.sigmoid().tolist(), strict=True))
