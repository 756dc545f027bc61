"""Whatever lies there is read by the reader it is for, and what nobody reads is answered with all that would be."""

from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data import read_data
from training.data.formats import READERS


@pytest.mark.parametrize("name", ["", "nowhere", "nowhere.csv", "nowhere.json", "file.pdf", "folder"])
def test_an_unknown_layout_lists_the_accepted_ones(name: str, tmp_path: Path):
    (tmp_path / "file.pdf").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="no labelled data at") as caught:
        read_data(tmp_path / name)
    assert all(reader.LAYOUT in str(caught.value) for reader in READERS)
    assert "\n" not in str(caught.value)
