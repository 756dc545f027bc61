"""`labelwise search` on a table that `labelwise tag --embeddings` wrote, and what it refuses in one line."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tests.conftest import scenes_only
from tests.serving.bulk.conftest import ROOT, run_here, tag_command

Search = Callable[..., subprocess.CompletedProcess[str]]
SUNSET = ("--like", "photos/sunset-hills.jpg", "--label", "sunset")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, committed: list[Path]) -> Path:
    """A folder with the committed photos, one that is cut off, and their table with embeddings."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "photos").mkdir()
    for photo in committed:
        shutil.copy(photo, folder / "photos")
    (folder / "photos/cut.jpg").write_bytes(committed[0].read_bytes()[:9000])
    command = [*tag_command("photos", "--out", "tags.parquet", "--embeddings"), "--repository", str(scenes_only())]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, cwd=folder, env=environment, check=False).returncode == 1
    return folder


@pytest.fixture
def search(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Search:
    """search(*arguments) runs the command in the folder."""
    pytest.importorskip("numkong", reason="it needs the extra search")
    monkeypatch.chdir(folder)

    def run(*arguments: object, table: str = "tags.parquet") -> subprocess.CompletedProcess[str]:
        repository = () if "--repository" in arguments else ("--repository", scenes_only())
        command = ["labelwise", "search", table, *map(str, (*arguments, *repository))]
        return run_here(command, monkeypatch, capsys)

    return run


def paths(answer: subprocess.CompletedProcess[str]) -> list[str]:
    assert answer.returncode == 0, answer.stderr
    return [line.split("  ", 1)[1] for line in answer.stdout.splitlines()]


def test_it_finds_photos_with_the_label_without_the_photo_itself(search: Search, folder: Path):
    assert paths(search(*SUNSET)) == ["photos/sunset-bay-palm.jpg"]
    shutil.copy(folder / "photos/sunset-hills.jpg", folder / "copy.jpg")
    answer = search("--like", "copy.jpg", "--label", "sunset", "--count", 1)
    assert answer.stdout == "1.000  photos/sunset-hills.jpg\n"


def test_tags_filter(search: Search):
    like = ("--like", "photos/sea-narwhals.jpg", "--label", "trees")
    every = json.loads(search(*like, "--json").stdout)["photos"]
    assert {"sunset" in photo["tags"] for photo in every} == {True, False}
    for photo in every:
        assert photo.keys() == {"path", "similarity", "score", "tags"}
    with_sunset = json.loads(search(*like, "--json", "--tag", "sunset").stdout)["photos"]
    without = json.loads(search(*like, "--json", "--not-tag", "sunset").stdout)["photos"]
    assert with_sunset == [photo for photo in every if "sunset" in photo["tags"]]
    assert without == [photo for photo in every if "sunset" not in photo["tags"]]
    nothing = search(*like, "--tag", "sunset", "--not-tag", "sunset")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr.endswith("\nlabelwise: No other photo of tags.parquet has these tags.\n")


def test_a_photo_without_the_label_is_searched_and_said(search: Search):
    answer = search("--like", "photos/sea-narwhals.jpg", "--label", "sunset")
    assert len(paths(answer)) == 2
    assert answer.stderr.startswith("labelwise: photos/sea-narwhals.jpg has sunset only with the score 0.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--like", "photos/sea-narwhals.jpg", "--label", "sunsett"), "no label 'sunsett'. Did you mean 'sunset'?"),
        (("--like", "photos/sea-narwhals.jpg", "--label", "xyz"), "It has desert, mountains"),
        ((*SUNSET, "--tag", "Sea"), "Did you mean 'sea'?"),
        (("--like", "photos/cut.jpg", "--label", "sea"), "photos/cut.jpg"),
        (("--like", "gone.jpg", "--label", "sea"), "gone.jpg: there is no such file."),
        ((*SUNSET, "--repository", "photos"), "name its --repository"),
    ],
)
def test_one_line_says_what_is_wrong(search: Search, arguments: tuple[str, ...], words: str):
    answer = search(*arguments)
    assert answer.returncode in (1, 2)
    assert answer.stderr.startswith("labelwise: ")
    assert (answer.stdout, answer.stderr.count("\n")) == ("", 1)
    assert words in answer.stderr


def test_a_table_without_embeddings_and_no_table(search: Search):
    Path("bare.csv").write_text("path,tags\n")
    assert "bare.csv has no embeddings beside it: `labelwise tag" in search(*SUNSET, table="bare.csv").stderr
    assert "There is no table gone.csv" in search(*SUNSET, table="gone.csv").stderr
    Path("bare.csv.embeddings.arrow").write_text("mine")
    assert "cannot be read as embeddings: remove it" in search(*SUNSET, table="bare.csv").stderr


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"version": 1', '"version": 7', "scenes version 7, and .* has version 1: "),
        ('"weights": "', '"weights": "x', "with other weights than "),
    ],
)
def test_embeddings_of_another_model_are_refused(search: Search, old: str, new: str, words: str):
    with pa.ipc.open_file(Path("tags.parquet.embeddings.arrow").read_bytes()) as reader:
        table = reader.read_all()
    about = table.schema.metadata[b"labelwise"].decode()
    table = table.replace_schema_metadata({"labelwise": about.replace(old, new)})
    with pa.ipc.new_file("other.parquet.embeddings.arrow", table.schema) as writer:
        writer.write_table(table)
    Path("other.parquet").touch()
    answer = search(*SUNSET, table="other.parquet")
    assert (answer.returncode, answer.stderr.count("\n")) == (1, 1)
    assert "--embeddings --force` embeds all again" in answer.stderr
    assert re.search(words, answer.stderr)


def test_without_the_extra_a_line_names_it(search: Search, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "numkong", None)
    for module in ("serving.embeddings.nearest", "serving.bulk.search_photos"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    answer = search(*SUNSET)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == "labelwise: this needs the 'search' extra: pip install 'labelwise[search]'\n"
