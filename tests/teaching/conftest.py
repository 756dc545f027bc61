"""The bundled `everyday`, to be taught, and pictures that differ in what a label may name."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelwise.repository import model_names
from tests.conftest import ROOT, only_in_fp32


@pytest.fixture
def everyday(tmp_path: Path) -> Path:
    """A repository with `everyday` alone, in fp32, to change."""
    return Path(shutil.copytree(only_in_fp32("everyday"), tmp_path / "repository"))


@pytest.fixture
def everyday_in_int8_too(tmp_path: Path) -> Path:
    """The same, with both bundled graphs."""
    repository = tmp_path / "repository"
    for part in model_names("everyday"):
        shutil.copytree(ROOT / "model_repository" / part, repository / part)
    return repository


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of pictures with and without the label: striped ones, and ones with a bright disc."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :96]
    folders = tmp_path / "yes", tmp_path / "no"
    for folder in folders:
        folder.mkdir()
        for number in range(4):
            noise = random.integers(0, 60, (96, 96, 3))
            if folder.name == "yes":
                shape = 150 * ((rows // (6 + number)) % 2)
            else:
                shape = 150 * ((rows - 40 - 4 * number) ** 2 + (columns - 48) ** 2 < 30**2)
            Image.fromarray((noise + shape[..., None]).astype(np.uint8)).save(folder / f"{number}.png")
    return folders
