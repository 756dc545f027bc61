"""An untrained tagger's checkpoint, written as training writes it, and its export, made once because it is slow."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from export.exporting import Target, export_tagger
from labelwise.files import locked_folder
from labelwise.repository import Repository
from labelwise.spec import DataSpec, ImageSpec, TaggerSpec
from training.checkpoint import WEIGHTS_FILE, load_checkpoint, make_spec, rounded_to_half, save_weights
from training.config import ModelConfig, TrainConfig
from training.model import TaggerNetwork

LABELS = ("cat", "großer Hund", "sea")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """With tiny tensors on busy cores, threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint's `run` and the `repository` with its first version; not to be written to.

    All of pytest's processes share it, because the export alone takes seconds.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "exported"
    folder.mkdir(exist_ok=True)
    with locked_folder(folder):
        if not (folder / "repository/pets").exists():
            write_checkpoint(folder / "run")
            export_tagger(folder / "run", None, Target(folder / "repository", "pets"))
    return folder


def write_checkpoint(folder: Path) -> None:
    folder.mkdir()
    model = ModelConfig(backbone="test_resnet", feature_level=2, dim=16, heads=2, projection_dim=8)
    config = TrainConfig(model=model, image=ImageSpec(height=32, width=48), max_batch=5)
    torch.manual_seed(0)
    tagger = TaggerNetwork(len(LABELS), config.image, model)
    for norm in (module for module in tagger.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.running_var.uniform_(0.3, 2)  # as if it had learned something
        torch.nn.init.normal_(norm.weight)
    tagger.load_state_dict(rounded_to_half(tagger.state_dict()))
    data = DataSpec(fingerprint="f", train_images=2, val_images=1, train_counts=dict.fromkeys(LABELS, 1))
    digest = save_weights(folder / WEIGHTS_FILE, tagger.state_dict())
    make_spec(config, LABELS, tagger.grid, data, [0.25, 0.5, 0.75], {"mAP": 0.5}, digest).write(folder)


@pytest.fixture(scope="session")
def checkpoint(made: Path) -> Path:
    return made / "run"


@pytest.fixture(scope="session")
def tagger(checkpoint: Path) -> TaggerNetwork:
    return load_checkpoint(checkpoint)[0]


@pytest.fixture(scope="session")
def exported(made: Path) -> Path:
    """A repository with the checkpoint's first version; not to be written to."""
    return made / "repository"


@pytest.fixture(scope="session")
def spec(exported: Path) -> TaggerSpec:
    return Repository.open(exported).taggers["pets"][1].spec


@pytest.fixture(scope="session")
def graph(exported: Path) -> Path:
    return exported / "pets_model/1/model.onnx"
