"""A run continues an output of its model, in every format, whatever a killed run left beside it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labelwise.spec import TaggerSpec
from serving.bulk.output import Output
from serving.bulk.output_formats import format_of
from serving.bulk.rows import Row, StoredRow
from serving.bulk.sources.found import FoundPhoto
from serving.bulk.tag_errors import OutputError, UsageError
from tests.serving.bulk.conftest import ROOT

SPEC = TaggerSpec.read(ROOT / "model_repository/scenes/1")
RETRAINED = SPEC.model_copy(update={"weights_sha256": "0" * 64})
ROW = Row("a.jpg", 1, 2, np.linspace(0, 1, len(SPEC.labels), dtype=np.float32))
PHOTO = FoundPhoto("a.jpg", 1, 2, bytes)
FORMATS = ["t.parquet", "t.jsonl", "t.csv", "t/"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(out: str, rows: Sequence[Row] = (ROW,), every_score: bool = True) -> None:
    output = Output(out, every_score)
    ledger = output.open(SPEC, force=False)
    ledger.put(rows)
    output.publish(ledger, SPEC)
    ledger.delete()


def read(out: str) -> list[StoredRow]:
    files = sorted(Path(out).glob("part-*")) if out.endswith("/") else [Path(out)]
    return [stored for file in files for stored in format_of(file).read(file)]


def done(out: str, every_score: bool = True) -> set[str]:
    ledger = Output(out, every_score).open(SPEC, force=False)
    try:
        return {*ledger.done([PHOTO])}
    finally:
        ledger.close()


@pytest.mark.parametrize("out", FORMATS)
@pytest.mark.parametrize("is_killed", [False, True], ids=["", "killed"])
def test_other_weights_under_the_same_version_are_refused_or_replaced(out: str, is_killed: bool):
    write(out)
    if is_killed:  # its journal stays
        Output(out).open(SPEC, force=False).close()
    with pytest.raises(OutputError, match=r"a scenes version 1 with other weights, and this is .* --force"):
        Output(out).open(RETRAINED, force=False)
    ledger = Output(out).open(RETRAINED, force=True)
    assert ledger.done([PHOTO]) == {}
    ledger.close()


def test_an_output_without_weights_is_continued():
    write("t.jsonl")
    text = Path("t.jsonl").read_text()
    Path("t.jsonl").write_text(text.replace(f'"weights": "{SPEC.weights_sha256[:12]}", ', ""))
    assert read("t.jsonl")[0].made_by.weights is None
    assert done("t.jsonl") == {"a.jpg"}


@pytest.mark.parametrize("out", FORMATS)
def test_a_photo_with_only_the_scores_of_its_tags_is_tagged_again_for_every_score(out: str):
    write(out, every_score=False)
    assert done(out, every_score=False) == {"a.jpg"}
    assert done(out) == set()  # also out of the journal that the last line left
    write(out)
    assert done(out) == {"a.jpg"}


def test_a_run_killed_in_the_first_part_of_a_folder_goes_on():
    ledger = Output("t/").open(SPEC, force=False)
    ledger.close()
    for part in Path("t").iterdir():
        part.unlink()
    Path("t/.part-00000-of-00016.parquet.new").write_bytes(b"PAR1")
    write("t/")
    assert [stored.row.path for stored in read("t/")] == ["a.jpg"]
    assert not list(Path("t").glob(".*"))


def test_a_link_stays_a_link():
    Path("real").mkdir()
    Path("t.csv").symlink_to("real/tags.csv")
    write("t.csv")
    write("t.csv", [replace(ROW, path="b.jpg")])
    assert Path("t.csv").is_symlink()
    assert [stored.row.path for stored in read("real/tags.csv")] == ["a.jpg", "b.jpg"]
    assert [file.name for file in Path("real").iterdir()] == ["tags.csv"]


@pytest.mark.parametrize("out", ["", ".", "/", "..", "x" * 250 + ".csv", "x/" * 3000 + "t.csv", "no/t.csv", "t.xlsx"])
def test_a_path_that_cannot_be_an_output_is_refused(out: str):
    with pytest.raises(UsageError):
        Output(out)


@pytest.mark.parametrize("text", ["abc\n", "path,tags\n", f"path\n{'x' * 200_000}\n", 'path\n"a"b\n'])
def test_a_csv_of_something_else_is_refused(text: str):
    Path("t.csv").write_text(text)
    with pytest.raises(OutputError, match="is not an output"):
        Output("t.csv").open(SPEC, force=True)
    assert Path("t.csv").read_text() == text


def test_an_unwritable_folder_is_not_reported_as_a_full_disk():
    output = Output("t.csv")
    ledger = output.open(SPEC, force=False)
    ledger.put([ROW])
    Path(".t.csv.new").mkdir()  # as good as read-only, also for root
    with pytest.raises(OutputError, match=r"t\.csv cannot be written: .*run the same command again") as caught:
        output.publish(ledger, SPEC)
    ledger.close()
    assert "room" not in str(caught.value)


@pytest.mark.parametrize("out", FORMATS)
def test_every_file_name_is_read_back(out: str):
    names = sorted(["a\rb.jpg", "c\nd.jpg", "e\r\n.jpg", 'f"g,h;i.jpg', "ü .jpg"])
    write(out, [replace(ROW, path=name) for name in names])
    assert sorted(stored.row.path for stored in read(out)) == names


def test_a_folder_of_other_files_is_refused():
    Path("t").mkdir()
    Path("t/.hidden").touch()
    with pytest.raises(OutputError, match="t is not an output"):
        Output("t/").open(SPEC, force=True)
