"""Photos in tars and zips are streamed; damage is reported."""

import io
import os
import tarfile
import threading
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from serving.bulk.rows import Row
from serving.bulk.sources.archives import BROKEN, read_archive
from serving.bulk.sources.finding import count_photos, find_photos
from serving.bulk.sources.found import FoundPhoto


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
        assert isinstance(photo, FoundPhoto)
        found.append((photo.path, photo.size, photo.mtime_ns, photo.read()[:1]))
    assert found == [(f"shard.tar/{at:06d}.jpg", 5000, 1_700_000_000 * 10**9, bytes([at])) for at in range(4)]
    assert count_photos(["shard.tar"]) is None


def loaded(archive: str) -> list[str]:
    """Read as a run does: each photo before the next one."""
    read = []
    for found in read_archive(archive):
        try:
            read.append(f"{found.path} {found.error if isinstance(found, Row) else len(found.read())}")
        except BROKEN:
            read.append(f"{found.path} broken")
    return read


@pytest.mark.parametrize(("at", "before"), [(600, 0), (11_000, 1), (24_000, 2), (22_700, 2)])
def test_a_cut_off_tar_is_reported_and_the_photos_before_are_found(tar: Path, at: int, before: int):
    tar.write_bytes(tar.read_bytes()[:at])
    read = loaded("shard.tar")
    assert read[:before] == [f"shard.tar/{index:06d}.jpg 5000" for index in range(before)]
    assert read[-1] == "shard.tar archive_broken"
    assert all(line.endswith("broken") for line in read[before:])


def test_a_damaged_header_is_not_taken_for_the_end_of_a_tar(tar: Path):
    damaged = bytearray(tar.read_bytes())
    damaged[11_264 : 11_264 + 512] = b"\xff" * 512  # of the third member
    tar.write_bytes(damaged)
    assert loaded("shard.tar") == ["shard.tar/000000.jpg 5000", "shard.tar archive_broken"]


def test_zips_and_broken_zips(folder: Path):
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.writestr("in/1.jpg", b"one")
        file.writestr("in/readme.txt", b"text")
    (found,) = ((photo, photo.read()) for photo in find_photos(["a.zip"]) if isinstance(photo, FoundPhoto))
    assert (found[0].path, found[0].size, found[1]) == ("a.zip/in/1.jpg", 3, b"one")
    (folder / "b.zip").write_bytes((folder / "a.zip").read_bytes()[:-30])
    (broken,) = find_photos(["b.zip"])
    assert isinstance(broken, Row)
    assert (broken.path, broken.error) == ("b.zip", "archive_broken")


def test_invalid_times_lose_no_photo(folder: Path):
    with tarfile.open(folder / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for at, time in enumerate(("inf", "nan", "1e300", "99999999999", "1.5")):
            member = tarfile.TarInfo(f"{at}.jpg")
            member.pax_headers = {"mtime": time}
            tar.addfile(member)
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        for name, month in (("5.jpg", 0), ("6.jpg", 1)):
            member = zipfile.ZipInfo(name)
            member.date_time = (1980, month, month, 0, 0, 0)
            file.writestr(member, b"x")
    found = [photo for photo in find_photos(["a.tar", "a.zip"]) if isinstance(photo, FoundPhoto)]
    assert [photo.path[-5:] for photo in found] == [f"{at}.jpg" for at in range(7)]
    assert [found[at].mtime_ns for at in (0, 1, 4, 5, 6)] == [0, 0, 1_500_000_000, 0, 315_532_800 * 10**9]


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_in_a_tar_named_like_a_photo_is_reported(folder: Path, kind: bytes):
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name in ("1.jpg", "2.jpg", "notes.txt"):
            member = tarfile.TarInfo(name)
            if name != "1.jpg":
                member.type, member.linkname = kind, "1.jpg"
            tar.addfile(member)
    assert loaded("a.tar") == ["a.tar/1.jpg 0", "a.tar/2.jpg file_unreadable"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["w", "w:gz"])
def test_the_last_member_of_a_name_counts(folder: Path, kind: Any):
    names = ("1.jpg", "in/2.jpg", "./in//2.jpg", "/1.jpg", "3.jpg", "in/2.jpg")
    with tarfile.open(folder / "a.tar", kind) as tar, zipfile.ZipFile(folder / "a.zip", "w") as file:
        for size, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
            file.writestr(zipfile.ZipInfo(name), bytes(size))
    for archive in ("a.tar", "a.zip"):
        assert sorted(loaded(archive)) == [f"{archive}/{line}" for line in ("1.jpg 3", "3.jpg 4", "in/2.jpg 5")]


def test_a_tar_may_be_a_pipe(tar: Path):
    os.mkfifo("pipe.tar")
    writer = threading.Thread(target=lambda: Path("pipe.tar").write_bytes(tar.read_bytes()))
    writer.start()
    assert loaded("pipe.tar") == [f"pipe.tar/{index:06d}.jpg 5000" for index in range(4)]
    writer.join()


def test_a_zip_that_lies_about_a_size_takes_no_memory(folder: Path):
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("1.jpg", bytes(32 * 2**20))
    packed = bytearray((folder / "a.zip").read_bytes())
    size = packed.rindex(b"PK\x01\x02") + 24
    packed[size : size + 4] = (1000).to_bytes(4, "little")
    (folder / "a.zip").write_bytes(packed)
    tracemalloc.start()
    try:
        assert loaded("a.zip") == ["a.zip/1.jpg broken"]
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
