"""Where photos come from: each is found once, whatever lies beside it, and what cannot be read is said."""

import csv
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelwise.errors import DataError
from serving.bulk.archives import BROKEN, read_archive
from serving.bulk.errors import UsageError
from serving.bulk.sources import MAX_BYTES, Found, Photo, Unreadable, check_sources, count_photos, find_photos, look
from tests.serving.bulk.conftest import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos at three depths, and what is no photo."""
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


def test_globs_and_single_photos(folder: Path):
    assert names("p/*.jpg") == ["p/a.jpg"]
    assert names("p/**/*.jpeg", "p/b.PNG") == ["p/b.PNG", "p/deep/c.jpeg"]
    assert names("p/d*") == ALL[2:]
    assert count_photos(["p/**/*.jpeg", "p/b.PNG"]) == 2
    (folder / "p/[1].jpg").write_bytes(b"1")  # a name that looks like a glob is a name first
    assert names("p/[1].jpg") == ["p/[1].jpg"]


def test_links_are_followed_and_no_loop_is_endless(folder: Path):
    (folder / "p/deep/up").symlink_to(folder / "p")
    (folder / "p/aside").symlink_to(folder / "p/deep")
    (folder / "other").mkdir()
    (folder / "other/e.jpg").write_bytes(b"e")
    (folder / "p/other").symlink_to(folder / "other")
    (folder / "other/back").symlink_to(folder / "p")
    assert names("p") == sorted([*ALL, "p/other/e.jpg"])  # by its own folder's name where it has one in reach
    assert names("p", "p/deep") == sorted([*ALL, "p/other/e.jpg"])


def test_a_photo_says_its_size_and_time(folder: Path):
    photo = look("p/a.jpg")
    assert isinstance(photo, Photo)
    status = (folder / "p/a.jpg").stat()
    assert (photo.size, photo.mtime_ns, photo.read()) == (status.st_size, status.st_mtime_ns, b"p/a.jpg")


@pytest.mark.parametrize("path", ["nowhere", "no/*.jpg"])
def test_what_is_not_there_is_refused(path: str, folder: Path):
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
    assert isinstance(photo := found["p/caf\\xe9.jpg"], Photo)
    assert photo.read() == b"x"
    codes = {path: item.code for path, item in found.items() if isinstance(item, Unreadable)}
    assert codes == {"p/pipe.jpg": "file_unreadable", "p/gone.jpg": "file_missing", "p/huge.jpg": "file_too_large"}


@contextmanager
def not_root() -> Iterator[None]:
    """Root may read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_folder_that_cannot_be_read_is_in_the_output():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        deep = Path(folder, "p/deep")
        deep.mkdir(parents=True)
        (deep.parent / "a.jpg").write_bytes(b"a")
        Path(folder).chmod(0o755)
        deep.chmod(0)
        with not_root():
            found = {photo.path: getattr(photo, "code", "") for photo in find_photos([f"{folder}/p"])}
            with pytest.raises(UsageError, match="deep cannot be read: permission denied"):
                check_sources([str(deep)])
        deep.chmod(0o755)
    assert found == {f"{folder}/p/a.jpg": "", f"{folder}/p/deep": "folder_unreadable"}


def test_a_list_on_stdin(folder: Path):
    code = "from serving.bulk.sources import *\nfor f in find_photos(['-']): print(f.path, getattr(f, 'code', ''))"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        input="p/a.jpg\r\n\np/deep/c.jpeg\np/none.jpg\np\n",
        capture_output=True,
        text=True,
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


@pytest.fixture
def tar(folder: Path) -> Path:
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for index in range(4):
            for suffix in ("jpg", "json"):
                member = tarfile.TarInfo(f"{index:06d}.{suffix}")
                member.size, member.mtime = 5000, 1_700_000_000
                tar.addfile(member, io.BytesIO(bytes([index]) * 5000))
    return folder / "shard.tar"


def test_photos_in_tars_are_streamed(tar: Path):
    found = []
    for photo in read_archive("shard.tar"):
        assert isinstance(photo, Photo)
        found.append((photo.path, photo.size, photo.mtime_ns, photo.read()[:1]))
    assert found == [(f"shard.tar/{at:06d}.jpg", 5000, 1_700_000_000 * 10**9, bytes([at])) for at in range(4)]
    assert count_photos(["shard.tar"]) is None


def loaded(archive: str) -> list[str]:
    """As the run reads it: each photo before the next one."""
    read = []
    for found in read_archive(archive):
        try:
            read.append(f"{found.path} {found.code if isinstance(found, Unreadable) else len(found.read())}")
        except BROKEN:
            read.append(f"{found.path} broken")
    return read


@pytest.mark.parametrize(("at", "before"), [(600, 0), (11_000, 1), (24_000, 2), (22_700, 2)])
def test_a_tar_that_is_cut_off_is_said_and_what_is_before_is_found(tar: Path, at: int, before: int):
    tar.write_bytes(tar.read_bytes()[:at])
    read = loaded("shard.tar")
    assert read[:before] == [f"shard.tar/{index:06d}.jpg 5000" for index in range(before)]
    assert read[-1] == "shard.tar archive_broken"
    assert all(line.endswith("broken") for line in read[before:])


def test_a_damaged_header_does_not_pass_for_the_end_of_a_tar(tar: Path):
    damaged = bytearray(tar.read_bytes())
    damaged[11_264 : 11_264 + 512] = b"\xff" * 512  # of the third member
    tar.write_bytes(damaged)
    assert loaded("shard.tar") == ["shard.tar/000000.jpg 5000", "shard.tar archive_broken"]


def test_zips_and_broken_zips(folder: Path):
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.writestr("in/1.jpg", b"one")
        file.writestr("in/readme.txt", b"text")
    (found,) = ((photo, photo.read()) for photo in find_photos(["a.zip"]) if isinstance(photo, Photo))
    assert (found[0].path, found[0].size, found[1]) == ("a.zip/in/1.jpg", 3, b"one")
    (folder / "b.zip").write_bytes((folder / "a.zip").read_bytes()[:-30])
    broken = only(list(find_photos(["b.zip"])))
    assert isinstance(broken, Unreadable)
    assert (broken.path, broken.code) == ("b.zip", "archive_broken")
