"""The file of embeddings: what was written is read back, and other files are refused."""

from pathlib import Path

import numpy as np
import pyarrow.feather
import pytest

from serving.embeddings.embeddings_file import Embedder, Embeddings, LabelRows, NotEmbeddings, write_embeddings

EMBEDDER = Embedder("scenes", 1, "0" * 12, ("sea", "sunset", "hot dog"), 4)
VECTORS = np.eye(4, dtype=np.float16)


def write(file: Path) -> Path:
    sea = LabelRows(0, ["a.jpg", "ü.jpg"], np.array([0.5, 0.25]), [[0, 2], []], VECTORS[:2])
    dog = LabelRows(2, ["a.jpg"], np.array([0.75]), [[0, 2]], VECTORS[3:])
    with file.open("wb") as stream:
        write_embeddings(stream, EMBEDDER, [sea, dog])
    return file


def test_it_is_read_back(tmp_path: Path):
    with Embeddings(write(tmp_path / "e.arrow")) as found:
        assert found.embedder == EMBEDDER
        assert list(found.rows()) == [
            ("a.jpg", 0, VECTORS[0].tobytes()),
            ("ü.jpg", 0, VECTORS[1].tobytes()),
            ("a.jpg", 2, VECTORS[3].tobytes()),
        ]
        assert found.of_label(1) == []
        (sea,) = found.of_label(0)
        assert sea.has_tag(2).tolist() == [True, False]
        assert sea.has_tag(1).tolist() == [False, False]
        assert sea.row(0) == ("a.jpg", 0.5, ["sea", "hot dog"])


def test_pandas_and_others_read_it(tmp_path: Path):
    rows = pyarrow.feather.read_table(write(tmp_path / "e.arrow")).to_pylist()
    assert [(row["path"], row["label"], row["score"]) for row in rows] == [
        ("a.jpg", "sea", 0.5),
        ("ü.jpg", "sea", 0.25),
        ("a.jpg", "hot dog", 0.75),
    ]


@pytest.mark.parametrize("content", ["", "nonsense", "cut", "other"])
def test_another_file_is_refused(tmp_path: Path, content: str):
    file = write(tmp_path / "e.arrow")
    if content == "cut":
        file.write_bytes(file.read_bytes()[:-200])
    elif content == "other":
        pyarrow.feather.write_feather(pyarrow.table({"a": [1]}), str(file))
    else:
        file.write_text(content)
    with pytest.raises((NotEmbeddings, OSError)):
        Embeddings(file)
