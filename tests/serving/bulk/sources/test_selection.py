"""What is left out of the sources, and how the command reports it."""

import io
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.bulk.sources.finding import count_photos, find_photos
from serving.bulk.sources.selection import Selection
from tests.serving.bulk.conftest import Tag, rows_of

SHOWN = ["p/a.jpg", "p/album/b.jpg", "p/preview/c.jpg", "p/x.lrdata.jpg"]
HIDDEN = [
    *("p/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "p/.trash/d.jpg", "p/album/.stversions/e.jpg", "p/#Recycle/f.jpg"),
    *("p/Catalog Previews.lrdata/g.jpg", "p/Photos.photoslibrary/resources/h.jpg", "p/appdata_x1/preview/i.jpg"),
    *(
        "p/.trashed-1700-j.jpg",
        "p/__MACOSX/k.jpg",
        "p/web/Thumbs/m.jpg",
        "p/Session/Cache/Thumbnails/n.jpg",
        "p/.Trash-1000/files/l.jpg",
    ),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (*SHOWN, *HIDDEN):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(*paths: str, selection: Selection | None = None) -> list[str]:
    selection = selection or Selection()
    found = [found.path for found in find_photos(paths, None, selection)]
    counted = count_photos(paths, None, selection)
    assert counted is None or counted == len(found)
    return sorted({*found})


@pytest.mark.parametrize("path", ["p", "./p/", "p/**/*.jpg", "p/**", "**"])
def test_hidden_folders_and_those_of_other_programs_are_left_out(path: str, folder: Path):
    selection = Selection()
    assert [name.removeprefix("./") for name in names(path, selection=selection)] == SHOWN
    hidden = 11 if path.startswith("p/**") else 12  # a glob itself finds no hidden photo
    assert selection.left_out.hidden == hidden
    assert str(selection.left_out).startswith(f"Left out: {hidden} folders and photos that are hidden or of other")
    assert "@eaDir" in str(selection.left_out) or "…" in str(selection.left_out)
    assert str(selection.left_out).endswith("--hidden takes them).")


def test_hidden_takes_them(folder: Path):
    selection = Selection(hidden=True)
    assert names("p", selection=selection) == sorted([*SHOWN, *HIDDEN])
    assert str(selection.left_out) == ""
    assert set(names("p/**/*.jpg", selection=selection)) == {*SHOWN, *HIDDEN} - {"p/.trashed-1700-j.jpg"}


def test_named_paths_are_taken_except_those_a_shell_put_for_a_star(folder: Path):
    assert names("p/.trash", "p/.trashed-1700-j.jpg") == ["p/.trash/d.jpg", "p/.trashed-1700-j.jpg"]
    by_shell = [str(path) for path in Path("p").iterdir() if not path.name.startswith(".")]
    assert names(*by_shell) == names("p/*") == SHOWN
    selection = Selection()
    assert names("p/@eaDir", "p/a.jpg", selection=selection) == ["p/a.jpg"]
    assert selection.left_out.hidden == 1


@pytest.mark.parametrize(
    "path", ["p/@eaDir", "p/@eaDir/", "p/@eaDir/a.jpg", "p/@eaDir/**/*.jpg", "p/@eaDir/*", "p/@eaDir/a.jpg/S*.jpg"]
)
def test_a_folder_of_another_program_is_taken_if_it_alone_is_named(path: str, folder: Path):
    selection = Selection()
    inner = folder / "p/@eaDir/a.jpg/@eaDir"
    inner.mkdir()
    (inner / "z.jpg").write_bytes(b"x")
    assert names(path, selection=selection) == ["p/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg"]
    assert selection.left_out.hidden == (path != "p/@eaDir/a.jpg/S*.jpg")
    assert names("p/__MACOSX", path) == ["p/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "p/__MACOSX/k.jpg"]


def test_everything_in_a_list_is_taken(folder: Path):
    (folder / "list.csv").write_text("path\n" + "\n".join([*SHOWN, *HIDDEN]))
    assert names("list.csv") == sorted([*SHOWN, *HIDDEN])
    assert names("list.csv", selection=Selection(exclude=("@eaDir", "?.jpg"))) == ["p/.trashed-1700-j.jpg", SHOWN[3]]


@pytest.mark.parametrize(
    ("globs", "left"),
    [
        (["album"], ["p/a.jpg", "p/preview/c.jpg", "p/x.lrdata.jpg"]),
        (["alb*", "x.*"], ["p/a.jpg", "p/preview/c.jpg"]),
        (["[ab].jpg"], ["p/preview/c.jpg", "p/x.lrdata.jpg"]),
        (["p/album/"], ["p/a.jpg", "p/preview/c.jpg", "p/x.lrdata.jpg"]),
        (["./album/*", "preview/c.*"], ["p/a.jpg", "p/x.lrdata.jpg"]),
        (["p"], []),
        (["ALBUM", "bum", "", "/"], SHOWN),
        (["p/*.jpg"], ["p/album/b.jpg", "p/preview/c.jpg"]),
        (["p/**/*.jpg"], []),
        (["p/**/b.jpg", "**/preview/**"], ["p/a.jpg", "p/x.lrdata.jpg"]),
        (["lbum/*.jpg", "/p/*.jpg", "p/**/c"], SHOWN),
    ],
)
@pytest.mark.parametrize("paths", [["p"], ["p/**/*.jpg"], SHOWN])
def test_exclude(globs: list[str], left: list[str], paths: list[str], folder: Path):
    selection = Selection(exclude=tuple(globs))
    assert names(*paths, selection=selection) == left
    assert (selection.left_out.excluded > 0) == (left != SHOWN)


@pytest.mark.parametrize("path", ["p", "./p", "absolute"])
def test_an_absolute_glob_matches_the_whole_path(path: str, folder: Path):
    selection = Selection(exclude=(f"{folder}/p/album", f"{folder}/*/x*.jpg"))
    path = str(folder / "p") if path == "absolute" else path
    left = {Path(name).resolve().relative_to(folder).as_posix() for name in names(path, selection=selection)}
    assert left == {"p/a.jpg", "p/preview/c.jpg"}


def zipped(file: Path, *members: str) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for member in members:
            archive.writestr(member, b"x")


def tarred(file: Path, *members: str) -> None:
    with tarfile.open(file, "w") as archive:
        for member in members:
            info = tarfile.TarInfo(member)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))


@pytest.mark.parametrize(("name", "make"), [("a.zip", zipped), ("a.tar", tarred)])
def test_members_of_archives_are_left_out_too(name: str, make: Callable[..., None], folder: Path):
    make(folder / name, *SHOWN, *HIDDEN)
    selection = Selection(exclude=("album",))
    assert names(name, selection=selection) == [f"{name}/{SHOWN[0]}", f"{name}/{SHOWN[2]}", f"{name}/{SHOWN[3]}"]
    assert (selection.left_out.hidden, selection.left_out.excluded) == (len(HIDDEN), 1)
    assert len(names(name, selection=Selection(hidden=True))) == len(SHOWN) + len(HIDDEN)


def test_the_command_says_what_it_left_out(tag: Tag, tmp_path: Path, committed: list[Path]):
    for name in ("p/a.jpg", "p/.trash/b.jpg", "p/@eaDir/c.jpg", "p/drafts/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(committed[0].read_bytes())
    answer: subprocess.CompletedProcess[str] = tag("p", "--out", "t.parquet", "--xmp", "--exclude", "drafts")
    assert (answer.returncode, list(rows_of(tmp_path / "t.parquet"))) == (0, ["p/a.jpg"])
    assert "Left out: 2 folders and photos that are hidden or of other programs (" in answer.stdout
    assert "--hidden takes them); 1 by --exclude." in answer.stdout
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.xmp")] == ["p/a.jpg.xmp"]
    answer = tag("p", "--out", "t.parquet", "--hidden")
    assert len(rows_of(tmp_path / "t.parquet")) == 4
    assert "Left out" not in answer.stdout
    answer = tag("p", "--out", "u.parquet", "--exclude", "*.jpg", "--exclude", "drafts")
    assert answer.returncode == 1
    assert "There is no photo in p: names end in" in answer.stderr
    assert "--hidden takes them); 2 by --exclude." in answer.stderr
