"""Twenty drawn pictures and the smallest network that still has every part."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from labelwise.spec import ImageSpec
from training.config import ModelConfig, TrainConfig
from training.synth import draw_dataset


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors on busy cores: threads would mostly wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "data"
    draw_dataset(folder, 20, seed=0, labels=6)
    return folder


@pytest.fixture(scope="session")
def config() -> TrainConfig:
    """Two steps an epoch, two epochs a stage, on the CPU in fp32."""
    return TrainConfig(
        model=ModelConfig(backbone="test_resnet", feature_level=2, dim=16, heads=2, projection_dim=8),
        image=ImageSpec(height=32, width=32),
        max_batch=3,
        epochs=2,
        contrastive_epochs=2,
        batch_size=8,
        seed=7,
        precision="fp32",
        memory_format="channels_last",
        device="cpu",
        workers=0,
    )
