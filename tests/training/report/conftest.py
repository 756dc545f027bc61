"""A trained run, runs that were never trained, and the same photos with other labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from training.checkpoint import WEIGHTS_FILE, make_spec, save_weights
from training.config import TrainConfig
from training.data.labelled_data import ABSENT, PRESENT, UNKNOWN, LabelledData, LabelledPhotos
from training.data.layouts import read_data
from training.loop import Trainer
from training.model import TaggerNetwork


@pytest.fixture(scope="session")
def data(dataset: Path) -> LabelledData:
    return read_data(dataset)


@pytest.fixture(scope="session")
def run(config: TrainConfig, data: LabelledData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained one, with the weights that stage 2 began from."""
    folder = tmp_path_factory.mktemp("run")
    Trainer(config, data, folder).run()
    return folder


def untrained_run(folder: Path, config: TrainConfig, data: LabelledData, threshold: float = 0.5) -> Path:
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    model = TaggerNetwork(len(data.labels), config.image, config.model)
    digest = save_weights(folder / WEIGHTS_FILE, model.state_dict())
    thresholds = [threshold] * len(data.labels)
    make_spec(config, data.labels, model.grid, data.describe(), thresholds, {}, digest).write(folder)
    return folder


def relabelled(data: LabelledData, labels: Sequence[str], seed: int = 0) -> LabelledData:
    """The same photos with other labels: random ones, a tenth unknown, the first present somewhere in val."""
    random = np.random.default_rng(seed)

    def targets(photos: LabelledPhotos) -> LabelledPhotos:
        values = random.choice([PRESENT, ABSENT, UNKNOWN], (len(photos), len(labels)), p=[0.4, 0.5, 0.1])
        values[0, 0] = PRESENT
        return LabelledPhotos(photos.files, values.astype(np.float32))

    return LabelledData(tuple(labels), targets(data.train), targets(data.val))
