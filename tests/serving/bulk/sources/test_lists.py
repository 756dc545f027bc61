"""Lists of photos: lines on standard input, and a column of a CSV or Parquet file."""

import csv
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelwise.errors import DataError
from serving.bulk.sources.finding import check_sources, find_photos
from serving.bulk.tag_errors import UsageError
from tests.serving.bulk.conftest import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("p/a.jpg", "p/deep/c.jpeg"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return tmp_path


def names(*paths: str) -> list[str]:
    return sorted(found.path for found in find_photos(paths))


def test_a_list_on_stdin(folder: Path):
    code = "from serving.bulk.sources.finding import find_photos\n"
    code += "for f in find_photos(['-']): print(f.path, getattr(f, 'error', ''))"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        input="\ufeffp/a.jpg\r\n\np/deep/c.jpeg\np/none.jpg\np\n",
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert answer.stdout.splitlines() == ["p/a.jpg ", "p/deep/c.jpeg ", "p/none.jpg file_missing", "p file_unreadable"]


def test_lists_as_csv_and_parquet(folder: Path):
    listed = ["a.jpg", "deep/c.jpeg", "gone.jpg"]
    with (folder / "p/list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("label", "image"), *(("x", name) for name in listed)])
    pq.write_table(pa.table({"path": listed}), folder / "p/list.parquet")
    wanted = ["p/a.jpg", "p/deep/c.jpeg", "p/gone.jpg"]
    assert names("p/list.csv") == names("p/list.parquet") == wanted

    (folder / "images").mkdir()
    (folder / "images/1.jpg").write_bytes(b"1")
    (folder / "labels.csv").write_text("image,sea\n1.jpg,0\n")  # as training has it
    assert names("labels.csv") == ["images/1.jpg"]
    (folder / "labels.csv").write_text("photo,sea\n1.jpg,0\n")
    with pytest.raises(DataError, match="name it `image` or `path`"):
        names("labels.csv")
    (folder / "labels.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"labels.parquet cannot be read"):
        names("labels.parquet")


def test_a_closed_stdin_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it for `<&-`
    with pytest.raises(UsageError, match="Standard input is closed"):
        check_sources(["-"])


def test_the_column_may_be_in_any_case(folder: Path):
    (folder / "p/list.csv").write_text("Id, Path\n1, a.jpg\n")
    assert names("p/list.csv") == ["p/a.jpg"]
    (folder / "p/list.csv").write_text("Id;Path\n1;a.jpg\n")  # as Excel writes it in half of Europe
    assert names("p/list.csv") == ["p/a.jpg"]
    (folder / "p/list.csv").write_text("Id;Photo\n1;a.jpg\n")
    with pytest.raises(DataError, match=r"list\.csv has no column of text .* name it `image` or `path`"):
        names("p/list.csv")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_text_in_parquet(folder: Path, kind: pa.DataType):
    table = pa.table({"image": pa.array([b"no path"]), "path": pa.array(["a.jpg"]).cast(kind)})
    pq.write_table(table, folder / "p/list.parquet")
    assert names("p/list.parquet") == ["p/a.jpg"]


@pytest.mark.parametrize("image", [b"p/a.jpg", {"bytes": b"x", "path": "p/a.jpg"}, ["p/a.jpg"], 1])
def test_a_parquet_column_that_is_not_text_is_not_read(folder: Path, image: object):
    pq.write_table(pa.table({"image": [image]}), folder / "list.parquet")
    with pytest.raises(DataError, match=r"list.parquet has no column of text"):
        names("list.parquet")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", "Label;Image;;\r\n;;;\r\nx;a.jpg;;\r\nx;deep/c.jpeg;;\r\n".encode("utf-8-sig")),
        ("list.tsv", "label\timage\r\n1,5\ta.jpg\r\n\t deep/c.jpeg\r\nx\r\n".encode("utf-16")),
        ("list.CSV", b"sep=;\nimage;x\na.jpg\ndeep/c.jpeg;1\n"),
    ],
)
def test_lists_as_spreadsheets_save_them(name: str, content: bytes, folder: Path):
    (folder / "p" / name).write_bytes(content)
    assert names(f"p/{name}") == ["p/a.jpg", "p/deep/c.jpeg"]
