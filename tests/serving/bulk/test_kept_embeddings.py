"""`labelwise tag --embeddings` keeps those of each photo's tags, once, whatever happens between runs."""

import os
from pathlib import Path

import numpy as np
import pytest

from labelwise.spec import TaggerSpec
from serving.bulk.output import Output
from serving.bulk.rows import Row
from serving.bulk.tag_errors import OutputError, UsageError
from serving.embeddings.embeddings_file import Embeddings
from tests.serving.bulk.conftest import ROOT, Tag, rows_of

SPEC = TaggerSpec.read(ROOT / "model_repository/scenes/1")
SEA = SPEC.labels.index("sea")
Kept = dict[tuple[str, str], list[float]]


def kept(out: str) -> Kept:
    """The vectors by path and label; fails if one is there twice."""
    with Embeddings(Path(out.rstrip("/") + ".embeddings.arrow")) as found:
        rows = [((path, SPEC.labels[place]), np.frombuffer(data, "<f2").tolist()) for path, place, data in found.rows()]
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def tags_in(out: Path) -> set[tuple[str, str]]:
    return {(path, tag) for path, row in rows_of(out).items() for tag in row["tags"] or ()}


@pytest.mark.parametrize("out", ["t.parquet", "t/"])
def test_each_tag_of_each_photo_has_its_embedding(tag: Tag, photos: Path, tmp_path: Path, out: str):
    assert tag("photos", "--out", out, "--embeddings").returncode == 1  # two are broken
    found = kept(out)
    assert found.keys() == tags_in(tmp_path / out)
    assert all(np.linalg.norm(vector) == pytest.approx(1, abs=2e-3) for vector in found.values())
    assert "; 9 unchanged" in tag("photos", "--out", out).stdout  # text.png is tried again
    assert kept(out) == found


def test_a_table_without_embeddings_gets_them(tag: Tag, photos: Path, tmp_path: Path):
    tag("photos", "--out", "t.parquet")
    before = rows_of(tmp_path / "t.parquet")
    assert tag("photos", "--out", "t.parquet", "--embeddings").returncode == 1
    assert kept("t.parquet").keys() == tags_in(tmp_path / "t.parquet")
    assert rows_of(tmp_path / "t.parquet").keys() == before.keys()


def test_a_later_run_without_the_option_replaces_those_of_changed_photos(tag: Tag, photos: Path, tmp_path: Path):
    tag("photos", "--out", "t.parquet", "--embeddings")
    changed = photos / "sea-narwhals.jpg"
    changed.write_bytes((photos / "trees-forest-stream.jpg").read_bytes())
    os.utime(changed, ns=(0, 1))
    (photos / "sunset-hills.jpg").write_bytes(b"broken now")
    tag("photos", "--out", "t.parquet")
    found = kept("t.parquet")
    assert found.keys() == tags_in(tmp_path / "t.parquet")
    assert found["photos/sea-narwhals.jpg", "trees"] == found["photos/trees-forest-stream.jpg", "trees"]
    assert not [path for path, _ in found if "sunset-hills" in path]


def row(path: str, value: float) -> Row:
    vector = np.full(SPEC.embedding_dim or 0, value, np.float16).tobytes()
    return Row(path, 1, 2, np.eye(len(SPEC.labels), dtype=np.float32)[SEA], embeddings={SEA: vector})


def test_a_killed_run_leaves_them_in_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    first = Output("t.parquet", embeddings=True)
    ledger = first.open(SPEC, force=False)
    ledger.put([row("a.jpg", 1), row("b.jpg", 1)])
    ledger.put([row("a.jpg", 2)])
    first.publish(ledger, SPEC)
    ledger.close()  # as kill -9 does it: the journal stays
    assert kept("t.parquet") == {}

    second = Output("t.parquet")
    assert second.keeps_embeddings
    ledger = second.open(SPEC, force=False)
    assert ledger.embedded("a.jpg") == {SEA}
    second.publish_embeddings(ledger, SPEC)
    ledger.delete()
    assert {key: vector[0] for key, vector in kept("t.parquet").items()} == {("a.jpg", "sea"): 2, ("b.jpg", "sea"): 1}


def test_a_table_of_another_model_does_not_keep_the_embeddings_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    output = Output("t.parquet", embeddings=True)
    ledger = output.open(SPEC, force=False)
    ledger.put([row("a.jpg", 1)])
    output.publish(ledger, SPEC)
    output.publish_embeddings(ledger, SPEC)
    ledger.delete()
    assert len(kept("t.parquet")) == 1
    retrained = SPEC.model_copy(update={"weights_sha256": "0" * 64})
    Output("t.parquet").open(retrained, force=True).close()  # and then killed
    assert kept("t.parquet") == {}


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    output = Output("t.parquet", embeddings=True)
    ledger = output.open(SPEC, force=False)
    ledger.put([row("a.jpg", 1)])
    Path(".t.parquet.embeddings.arrow.new").mkdir()  # as good as read-only, also for root
    with pytest.raises(OutputError, match=r"embeddings\.arrow cannot be written: .* It is unchanged"):
        output.publish_embeddings(ledger, SPEC)
    ledger.close()
    assert kept("t.parquet") == {}


def test_what_cannot_be_kept_is_refused(tag: Tag, photos: Path, tmp_path: Path):
    bare = SPEC.model_copy(update={"outputs": SPEC.outputs[:1]})
    with pytest.raises(UsageError, match="scenes has no label-level embeddings"):
        Output(f"{tmp_path}/t.csv", embeddings=True).open(bare, force=False)
    answer = tag("photos", "--out", "t.csv", "--embeddings", "--server", "http://127.0.0.1:9")
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert "A gateway does not give embeddings" in answer.stderr
    tag("photos", "--out", "t.csv")
    (tmp_path / "t.csv.embeddings.arrow").write_text("mine")
    answer = tag("photos", "--out", "t.csv")
    assert (answer.returncode, answer.stderr.count("\n")) == (1, 1)
    assert "is not a file of embeddings that `labelwise tag` wrote: remove it" in answer.stderr
    assert (tmp_path / "t.csv.embeddings.arrow").read_text() == "mine"
