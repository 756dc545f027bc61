"""Each photo is found once, whatever lies beside it, and what cannot be read is reported."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labelwise.image import SUFFIXES
from serving.bulk.rows import Row
from serving.bulk.sources.finding import check_sources, count_photos, find_photos
from serving.bulk.sources.found import MAX_BYTES, Found, FoundPhoto, look
from serving.bulk.tag_errors import UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos at three depths, and other files."""
    monkeypatch.chdir(tmp_path)
    for name in ("p/a.jpg", "p/b.PNG", "p/deep/c.jpeg", "p/deep/er/d.webp", "p/notes.txt", "p/._a.jpg", "p/a.jpg.xmp"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return tmp_path


ALL = ["p/a.jpg", "p/b.PNG", "p/deep/c.jpeg", "p/deep/er/d.webp"]


def names(*paths: str) -> list[str]:
    return sorted(found.path for found in find_photos(paths))


def only(found: list[Found]) -> Found:
    (one,) = found
    return one


def test_folders_are_read_to_the_bottom(folder: Path):
    assert names("p") == names("./p/") == names("p//") == ALL
    assert count_photos(["p"]) == 4
    assert names(str(folder / "p")) == [str(folder / name) for name in ALL]


def test_every_suffix_of_a_photo_counts_in_any_case(folder: Path):
    expected = []
    for suffix in SUFFIXES:
        for spelled in (suffix, suffix.upper()):
            (folder / "q").mkdir(exist_ok=True)
            (folder / f"q/1{spelled}").write_bytes(b"1")
            expected.append(f"q/1{spelled}")
    assert names("q") == sorted(expected)


def test_globs_and_single_photos(folder: Path):
    assert names("p/*.jpg") == ["p/a.jpg"]
    assert names("p/**/*.jpeg", "p/b.PNG") == ["p/b.PNG", "p/deep/c.jpeg"]
    assert names("p/d*") == ALL[2:]
    assert count_photos(["p/**/*.jpeg", "p/b.PNG"]) == 2
    (folder / "p/[1].jpg").write_bytes(b"1")  # a name that looks like a glob is a name first
    assert names("p/[1].jpg") == ["p/[1].jpg"]


def test_links_are_followed_and_circles_end(folder: Path):
    (folder / "p/deep/up").symlink_to(folder / "p")
    (folder / "p/aside").symlink_to(folder / "p/deep")
    (folder / "other").mkdir()
    (folder / "other/e.jpg").write_bytes(b"e")
    (folder / "p/other").symlink_to(folder / "other")
    (folder / "other/back").symlink_to(folder / "p")
    assert names("p") == sorted([*ALL, "p/other/e.jpg"])  # by its own folder's name where it has one in reach
    assert names("p", "p/deep") == sorted([*ALL, "p/other/e.jpg"])


@pytest.mark.parametrize("start", ["", "./", "/"])
def test_a_deep_glob_takes_each_folder_once(start: str, folder: Path):
    """`glob` itself never ends in these two circles."""
    for link in ("p/deep/up", "p/deep/er/up"):
        (folder / link).symlink_to(folder / "p")
    for name in ("p/.hidden/e.jpg", "p/[1]/f.jpg"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"x")
    start = f"{folder}/" if start == "/" else start
    prefix = "" if start == "./" else start
    for pattern in ("p/**/*.*", "p/**/**//*.*", "**/*.*", "[p]/**/*.*"):
        found = [name for name in names(start + pattern) if not name.endswith("._a.jpg")]
        assert found == sorted(prefix + name for name in (*ALL, "p/[1]/f.jpg")), pattern
    for pattern in ("p/**", "**", "p/**/d*/**/*"):
        assert names(start + pattern)
    assert names(f"{start}p/**/er/*") == [f"{prefix}p/deep/er/d.webp", *names(f"{start}p/deep/er/up")]


def test_a_photo_has_its_size_and_time(folder: Path):
    photo = look("p/a.jpg")
    assert isinstance(photo, FoundPhoto)
    status = (folder / "p/a.jpg").stat()
    assert (photo.size, photo.mtime_ns, photo.read()) == (status.st_size, status.st_mtime_ns, b"p/a.jpg")


@pytest.mark.parametrize("path", ["nowhere", "no/*.jpg"])
def test_a_path_that_does_not_exist_is_refused(path: str, folder: Path):
    with pytest.raises(UsageError, match="There is nothing at"):
        check_sources(["p", path])


def test_names_in_other_encodings_and_odd_files(folder: Path):
    Path(os.fsdecode(b"p/caf\xe9.jpg")).write_bytes(b"x")
    (folder / "p/line\nbreak.jpg").write_bytes(b"y")
    os.mkfifo(folder / "p/pipe.jpg")
    (folder / "p/gone.jpg").symlink_to("nowhere")
    with (folder / "p/huge.jpg").open("wb") as huge:
        huge.truncate(MAX_BYTES + 1)
    found = {item.path: item for item in find_photos(["p"])}
    assert {*found} == {*ALL, "p/caf\\xe9.jpg", "p/line\nbreak.jpg", "p/pipe.jpg", "p/gone.jpg", "p/huge.jpg"}
    assert isinstance(photo := found["p/caf\\xe9.jpg"], FoundPhoto)
    assert photo.read() == b"x"
    codes = {path: item.error for path, item in found.items() if isinstance(item, Row)}
    assert codes == {"p/pipe.jpg": "file_unreadable", "p/gone.jpg": "file_missing", "p/huge.jpg": "file_too_large"}


@contextmanager
def not_root() -> Iterator[None]:
    """Another user, because root may read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_an_unreadable_folder_is_in_the_output():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        deep = Path(folder, "p/deep")
        deep.mkdir(parents=True)
        (deep.parent / "a.jpg").write_bytes(b"a")
        Path(folder).chmod(0o755)
        deep.chmod(0)
        with not_root():
            found = {photo.path: getattr(photo, "error", "") for photo in find_photos([f"{folder}/p"])}
            assert {photo.path for photo in find_photos([str(deep)])} == {f"{folder}/p/deep"}
        deep.chmod(0o755)
    assert found == {f"{folder}/p/a.jpg": "", f"{folder}/p/deep": "folder_unreadable"}


def test_a_bad_link_loses_nothing_of_its_folder():
    with tempfile.TemporaryDirectory() as folder:
        closed = Path(folder, "closed")
        (closed / "album").mkdir(parents=True)
        photos = Path(folder, "p")
        photos.mkdir()
        for name, target in (("round", "round"), ("r.jpg", "r.jpg"), ("in", closed / "album"), ("i.jpg", closed / "i")):
            (photos / name).symlink_to(target)
        for index in range(5):
            (photos / f"{index}.jpg").write_bytes(b"x")
        Path(folder).chmod(0o755)
        closed.chmod(0)
        with not_root():
            found = {photo.path[-5:]: getattr(photo, "error", "") for photo in find_photos([f"{folder}/p"])}
        closed.chmod(0o755)
    unreadable = {"r.jpg": "file_unreadable", "i.jpg": "file_unreadable"}
    assert found == unreadable | {f"{index}.jpg": "" for index in range(5)}


def test_unreadable_files_do_not_stop_the_others(folder: Path):
    for name, target in (("gone.jpg", "nowhere"), ("round.jpg", "round.jpg"), ("gone.tar", "nowhere")):
        (folder / name).symlink_to(target)
    paths = ["gone.jpg", "round.jpg", "gone.tar", "p/a.jpg"]
    check_sources(paths)
    found = {photo.path: getattr(photo, "error", "") for photo in find_photos(paths)}
    assert found == dict(zip(paths, ("file_missing", "file_unreadable", "archive_broken", ""), strict=True))
    (folder / "gone.csv").symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"gone.csv cannot be read"):
        check_sources(["gone.csv"])


@pytest.mark.parametrize("out", ["p/tags.jsonl", "./p/tags.csv", "p/tags.parquet"])
def test_files_that_a_run_writes_are_not_read(folder: Path, out: str):
    photos = [name for name in ALL if name.count("/") == 1]
    for suffix in ("", ".journal", ".journal-wal", ".journal-shm"):
        (folder / f"{out}{suffix}").write_text("path\ngone.jpg\n")
    (folder / "p/b.xmp").write_text("a sidecar")
    named = [str(path) for path in Path("p").iterdir() if path.is_file() and path.suffix != ".txt"]
    for paths in (["p/*.*"], ["p/*"], [*named, "p/a.jpg.xmp"]):
        found = {photo.path for photo in find_photos(paths, out) if photo.path.count("/") == 1}
        assert found - {"p/._a.jpg"} == {*photos}
    assert count_photos(["p/*"], out) == 4
    (folder / "elsewhere").symlink_to(folder / "p")
    link = f"elsewhere/{Path(out).name}"
    assert {photo.path for photo in find_photos(["p/*.*"], link)} - {"p/._a.jpg"} == {*photos}
    (folder / "all.csv").write_text("path\n" + "\n".join([*named, out]))
    assert {photo.path for photo in find_photos(["all.csv"], out)} - {"p/._a.jpg"} == {*photos}


def test_a_glob_takes_only_what_can_hold_photos(folder: Path):
    (folder / "p/list.csv").write_text("path\na.jpg\n")
    (folder / "tags").mkdir()
    (folder / "tags/part-00000-of-00001.parquet").write_text("no list")
    assert {*names("p/*", "*", "p/notes.tx?")} == {*ALL}
    assert {photo.path for photo in find_photos(["tag*/*", "p/a*"], "tags/")} == {"p/a.jpg"}


@pytest.mark.parametrize("name", ["a.zip", "a.TAR.gz", "*.zip"])
def test_an_archive_is_refused_if_photos_get_sidecars(name: str, tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(b"")
    (tmp_path / "a.TAR.gz").write_bytes(b"")
    (tmp_path / "folder.zip").mkdir()
    check_sources([str(tmp_path / name)])
    check_sources([str(tmp_path / "folder.zip")], sidecars=True)
    with pytest.raises(UsageError, match=r"Photos in an archive cannot have sidecars: unpack .*, or tag it without"):
        check_sources([str(tmp_path), str(tmp_path / name)], sidecars=True)
