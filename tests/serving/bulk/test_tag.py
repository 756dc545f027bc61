"""The command: its three formats, what a second run does, and what it refuses in one line."""

import csv
import json
import resource
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from labelwise.image import load_pixels
from labelwise.repository import Repository
from tests.conftest import scenes_only
from tests.serving.bad_images import BROKEN_PROFILE, BROKEN_PROFILE_NOTE
from tests.serving.bulk.conftest import Tag, assert_same, rows_of


def bare_scores(photos: list[Path]) -> dict[str, list[float]]:
    """Decode and session.run, one photo at a time: what the command must agree with."""
    (versions,) = Repository.open(scenes_only()).taggers.values()
    tagger = versions[max(versions)]
    image = tagger.spec.image
    session = ort.InferenceSession(tagger.weights, providers=["CPUExecutionProvider"])

    def scores(photo: Path) -> list[float]:
        pixels = load_pixels(photo.read_bytes(), image.height, image.width, image.resize, image.interpolation)
        return list(session.run(["scores"], {tagger.spec.input.name: pixels[np.newaxis]})[0][0].tolist())

    return {photo.name: scores(photo) for photo in photos}


def test_the_table_has_the_models_scores(tag: Tag, photos: Path, committed: list[Path], tmp_path: Path):
    answer = tag("photos", "--out", "tags.parquet")
    assert answer.returncode == 1  # two are broken
    assert answer.stdout.startswith("Tagged 8 photos in ")
    assert answer.stdout.endswith("; 2 with an error (column `error`). tags.parquet has 10 rows.\n")
    rows = rows_of(tmp_path / "tags.parquet")
    wanted = bare_scores(committed)
    thresholds = dict(zip(*spec_labels(), strict=True))
    for name, scores in wanted.items():
        row = rows.pop(f"photos/{name}")
        assert list(row["scores"].values()) == pytest.approx(scores, abs=2e-6)
        told = row["scores"]
        assert row["tags"] == sorted((k for k in told if told[k] >= thresholds[k]), key=told.get, reverse=True)
        status = (photos / name).stat()
        assert (row["model"], row["version"], row["error"]) == ("scenes", 1, None)
        assert (row["size"], row["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
    assert {path: (row["error"], row["tags"], row["scores"]) for path, row in rows.items()} == {
        "photos/cut.jpg": ("image_broken", None, None),
        "photos/text.png": ("image_format_unsupported", None, None),
    }
    assert list(pq.read_table(tmp_path / "tags.parquet")["path"].to_pylist()) == sorted(
        [f"photos/{name}" for name in wanted] + [*rows]
    )


def test_a_note_about_a_photo_is_its_detail(tag: Tag, committed: list[Path], tmp_path: Path):
    folder = tmp_path / "p"
    folder.mkdir()
    shutil.copy(committed[0], folder / "plain.jpg")
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(BROKEN_PROFILE)
    answer = tag("p", "--out", "t.parquet")
    assert answer.returncode == 0
    assert answer.stderr.count(BROKEN_PROFILE_NOTE) == 1
    rows = rows_of(tmp_path / "t.parquet")
    assert {path: (row["error"], row["detail"]) for path, row in rows.items()} == {
        "p/plain.jpg": (None, None),
        "p/a.jpg": (None, BROKEN_PROFILE_NOTE),
        "p/b.jpg": (None, BROKEN_PROFILE_NOTE),
    }
    again = tag("p", "--out", "t.parquet")
    assert (again.returncode, again.stdout.startswith("Tagged 0 photos")) == (0, True)


def test_notes_of_a_gateway_are_details_too(tag: Tag, gateway_url: str, tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(BROKEN_PROFILE)
    assert tag("a.jpg", "--out", "t.parquet", "--server", gateway_url).returncode == 0
    assert rows_of(tmp_path / "t.parquet")["a.jpg"]["detail"] == BROKEN_PROFILE_NOTE


def spec_labels() -> tuple[tuple[str, ...], tuple[float, ...]]:
    (versions,) = Repository.open(scenes_only()).taggers.values()
    spec = versions[max(versions)].spec
    return spec.labels, spec.thresholds


def test_every_format_has_the_same_content(tag: Tag, photos: Path, tmp_path: Path):
    for out in ("t.parquet", "t.jsonl", "t.csv", "parts/"):
        assert tag("photos", "--out", out).returncode == 1
    wanted = rows_of(tmp_path / "t.parquet")
    assert_same(rows_of(tmp_path / "parts"), wanted)
    assert ds.dataset(tmp_path / "parts").count_rows() == 10  # as other tools open a folder
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert_same({line["path"]: line for line in lines}, wanted)
    with (tmp_path / "t.csv").open(newline="") as stream:
        cells = list(csv.DictReader(stream))
    for row in cells:
        other = wanted[row["path"]]
        assert row["tags"] == ";".join(other["tags"] or [])
        assert row["error"] == (other["error"] or "")
        for label, score in (other["scores"] or {}).items():
            assert float(row[f"scores.{label}"]) == pytest.approx(score, abs=2e-6)


def test_scores_of_tags_only(tag: Tag, photos: Path, tmp_path: Path):
    tag("photos/sunset-bay-palm.jpg", "--out", "t.jsonl", "--scores", "tags")
    (line,) = map(json.loads, (tmp_path / "t.jsonl").read_text().splitlines())
    assert {*line["scores"]} == {*line["tags"]}


@pytest.mark.parametrize("out", ["tags.parquet", "tags.jsonl", "tags.csv", "tags/"])
def test_a_second_run_tags_only_new_and_changed_photos(tag: Tag, photos: Path, tmp_path: Path, out: str):
    tag("photos", "--out", out)
    again = tag("photos", "--out", out)
    assert again.stdout.startswith("Tagged 0 photos"), again.stderr
    assert "9 unchanged; 2 with an error" in again.stdout
    assert again.returncode == 1  # the next release may read a format that this one refuses

    shutil.copy(photos / "sunset-bay-palm.jpg", photos / "new.jpg")
    shutil.copyfile(photos / "sea-narwhals.jpg", photos / "cut.jpg")  # mended
    shutil.copyfile(photos / "desert-pyramid.jpg", photos / "coffee-cup.jpg")
    (photos / "text.png").unlink()
    third = tag("photos", "--out", out)
    assert third.returncode == 0
    assert third.stdout.startswith("Tagged 3 photos")
    assert "7 unchanged" in third.stdout
    tag("photos", "--out", "fresh.parquet")
    tag("photos", "--out", "fresh.parquet")
    if not out.endswith((".jsonl", ".csv")):
        found = rows_of(tmp_path / out.rstrip("/"))
        assert found.pop("photos/text.png")["error"] == "image_format_unsupported"  # deleted photos stay in the table
        assert_same(found, rows_of(tmp_path / "fresh.parquet"))


def test_errors_that_may_pass_are_tried_again(tag: Tag, photos: Path, tmp_path: Path):
    (tmp_path / "list.csv").write_text("image\nphotos/coffee-cup.jpg\nphotos/late.jpg\n")
    assert tag("list.csv", "--out", "t.parquet").returncode == 1
    assert rows_of(tmp_path / "t.parquet")["photos/late.jpg"]["error"] == "file_missing"
    shutil.copy(photos / "sea-narwhals.jpg", photos / "late.jpg")
    answer = tag("list.csv", "--out", "t.parquet")
    assert (answer.returncode, answer.stdout[:15]) == (0, "Tagged 1 photo ")


def test_overlapping_sources_give_each_photo_once(tag: Tag, photos: Path, tmp_path: Path):
    answer = tag("photos", "photos/*.jpg", "./photos/coffee-cup.jpg", "--out", "t.parquet")
    assert answer.stdout.startswith("Tagged 8 photos")
    assert len(rows_of(tmp_path / "t.parquet")) == 10


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    """The bundled model again, as its version 2."""
    repository = shutil.copytree(scenes_only(), tmp_path / "repository")
    for part in ("scenes", "scenes_decode", "scenes_model"):
        (repository / part / "1").rename(repository / part / "2")
    for file in (repository / "scenes/2/tagger.json", repository / "scenes/tagger.json"):
        file.write_text(file.read_text().replace('"version": 1,', '"version": 2,'))
    return repository


def test_an_output_of_another_version_is_refused_or_replaced(tag: Tag, photos: Path, version_2: Path, tmp_path: Path):
    tag("photos", "--out", "t.parquet")
    before = (tmp_path / "t.parquet").read_bytes()
    refused = tag("photos", "--out", "t.parquet", "--repository", version_2)
    assert_one_line(refused, 1, "t.parquet was written by scenes version 1, and this is scenes version 2", "--force")
    assert (tmp_path / "t.parquet").read_bytes() == before
    assert not (tmp_path / "t.parquet.journal").exists()

    forced = tag("photos", "--out", "t.parquet", "--repository", version_2, "--force")
    assert forced.stdout.startswith("Tagged 8 photos")
    assert {row["version"] for row in rows_of(tmp_path / "t.parquet").values()} == {2}
    again = tag("photos", "--out", "t.parquet", "--repository", version_2, "--force")
    assert again.stdout.startswith("Tagged 0 photos")  # as after a kill


def test_an_output_of_other_labels_is_refused(tag: Tag, photos: Path, tmp_path: Path):
    tag("photos", "--out", "t.csv")
    text = (tmp_path / "t.csv").read_text()
    (tmp_path / "t.csv").write_text(text.replace("scores.sea", "scores.ocean"))
    assert_one_line(tag("photos", "--out", "t.csv"), 1, "with other labels", "--force")


def assert_one_line(answer, code: int, *words: str) -> None:
    assert (answer.returncode, answer.stdout) == (code, ""), answer.stderr
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert answer.stderr.startswith("labelwise: ")
    for word in words:
        assert word in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nowhere", "--out", "t.csv"), 2, ("There is nothing at nowhere",)),
        (("photos", "--out", "t.xlsx"), 2, ("t.xlsx cannot be an output", ".parquet")),
        (("photos", "--out", "no/where/t.csv"), 2, ("There is no folder no/where",)),
        (("photos", "--out", "photos/"), 1, ("photos is not an output of `labelwise tag`",)),
        (("photos", "--out", "other.csv"), 1, ("other.csv is not an output of `labelwise tag`",)),
        (("photos", "--out", "other.parquet"), 1, ("other.parquet is not an output of `labelwise tag`",)),
        (("photos", "--out", "t.csv", "--model", "pets"), 1, ("no model 'pets'", "scenes")),
        (("photos", "--out", "t.csv", "--repository", "photos"), 1, ("holds no tagger",)),
        (("photos", "--out", "t.csv", "--send", "bytes"), 2, ("--send bytes is for servers",)),
        (("photos", "--out", "t.csv", "--server", "http://h:1", "--engine", "triton"), 2, ("choose one",)),
        (("photos", "--out", "t.csv", "--key", "k"), 2, ("--key is for --server",)),
        (("photos", "--out", "t.csv", "--workers", "2"), 2, ("--workers is for --ray",)),
        (("photos", "--out", "t.csv", "--server", "h:1"), 1, ("grpc://HOST:8001",)),
    ],
)
def test_every_error_is_one_line(
    tag: Tag, photos: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, words: tuple[str, ...]
):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "other.parquet").write_text("something else")
    before = sorted(tmp_path.rglob("*"))
    assert_one_line(tag(*arguments), code, *words)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_is_not_a_list_is_one_line(tag: Tag, tmp_path: Path):
    (tmp_path / "list.csv").write_text("photo\na.jpg\n")
    assert_one_line(tag("list.csv", "--out", "t.csv"), 1, "name it `image` or `path`")


@pytest.mark.parametrize("out", ["tags.csv", "tags/"])
def test_a_full_disk_leaves_the_last_output_and_the_run_goes_on_later(
    tag: Tag, many: Callable[[int], Path], tmp_path: Path, out: str
):
    many(40)
    tag("photos/0", "--out", out)
    before = paths_in(tmp_path / out)
    small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))  # noqa: E731 (no file may grow beyond)
    failed = tag("photos", "--out", out, preexec_fn=small)
    assert_one_line(failed, 1, "cannot be written", "run the same command again")
    assert paths_in(tmp_path / out) >= before
    end = tag("photos", "--out", out)
    assert (end.returncode, "40 rows" in end.stdout) == (0, True), end.stderr
    assert len(paths_in(tmp_path / out)) == 40


def paths_in(out: Path) -> set[str]:
    if out.suffix == ".csv":
        with out.open(newline="") as stream:
            return {row["path"] for row in csv.DictReader(stream)}
    return {*rows_of(out)}


def test_without_its_output_a_run_begins_again(tag: Tag, photos: Path, tmp_path: Path):
    tag("photos", "--out", "t.csv")
    (tmp_path / "t.csv").unlink()
    sqlite3.connect(tmp_path / "t.csv.journal").close()  # as a run that was killed at its very beginning leaves it
    assert tag("photos", "--out", "t.csv").stdout.startswith("Tagged 8 photos")


def test_the_journal_of_something_else_is_not_touched(tag: Tag, photos: Path, tmp_path: Path):
    (tmp_path / "t.csv.journal").write_text("my diary, which is longer than a database's header, and is not one")
    assert_one_line(tag("photos", "--out", "t.csv"), 1, "t.csv.journal is not a journal of `labelwise tag`")
    assert (tmp_path / "t.csv.journal").read_text().startswith("my diary")


def test_sources_from_stdin_and_archives(tag: Tag, photos: Path, tmp_path: Path):
    shutil.make_archive(str(tmp_path / "all"), "zip", photos)
    shutil.make_archive(str(tmp_path / "all"), "tar", photos)
    tag("all.zip", "all.tar", "--out", "t.parquet")
    rows = rows_of(tmp_path / "t.parquet")
    assert len(rows) == 20
    assert rows["all.zip/sea-narwhals.jpg"]["tags"] == rows["all.tar/sea-narwhals.jpg"]["tags"] == ["sea"]
    assert tag("all.zip", "all.tar", "--out", "t.parquet").stdout.startswith("Tagged 0 photos")
    answer = tag("-", "--out", "u.jsonl", input="photos/sea-narwhals.jpg\nphotos/none.jpg\n")
    assert (answer.returncode, answer.stdout[:15]) == (1, "Tagged 1 photo ")


def test_a_glob_over_everything_takes_only_the_photos(tag: Tag, committed: list[Path], tmp_path: Path):
    shutil.copy(committed[0], tmp_path / "a.jpg")
    for start in ("Tagged 1 photo ", "Tagged 0 photos"):
        answer = tag("*", "--out", "tags.csv", "--xmp")
        assert (answer.returncode, answer.stdout[:15]) == (0, start)
    assert tag("a.jpg", "tags.csv", "a.jpg.xmp", "--out", "tags.csv").returncode == 0  # as a shell names them


def test_a_run_without_photos_says_so(tag: Tag, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert_one_line(tag("empty", "--out", "t.csv"), 1, "There is no photo in empty")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty", "t.csv"]
    assert tag("-", "--out", "u.csv", input="").returncode == 0  # a list may have nothing new
