"""Chunks are as large as a request may be, in photos and in bytes, and have no photo that is done."""

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.bulk.chunks import Chunk, read_chunks
from serving.bulk.ledger import Ledger
from serving.bulk.rows import Identity, Row
from serving.bulk.sources.found import FoundPhoto, look

BYTES = 10_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.create(tmp_path / "t.csv.journal", Identity("scenes", 1, ("sea",), "1" * 12), 1)
    yield ledger
    ledger.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p").mkdir()
    for index in range(10):
        (tmp_path / f"p/{index}.jpg").write_bytes(bytes(1000 * (index + 1)))
    return tmp_path / "p"


def chunks(ledger: Ledger, *paths: object, size: int = 100) -> list[Chunk]:
    return list(read_chunks([str(path) for path in paths], ledger, size, BYTES))


def test_a_chunk_has_as_many_photos_as_a_request_takes(ledger: Ledger, folder: Path):
    small = [folder / f"small/{index}.jpg" for index in range(9)]
    small[0].parent.mkdir()
    for photo in small:
        photo.touch()
    assert [len(chunk.photos) for chunk in chunks(ledger, *small, size=4)] == [4, 4, 1]


def test_each_photo_comes_once_however_often_it_is_named(ledger: Ledger, folder: Path):
    photos = sorted(folder.iterdir())
    for size in (1, 100):
        found = [photo.path for chunk in chunks(ledger, *photos, *photos, folder, size=size) for photo in chunk.photos]
        assert sorted(found) == sorted(map(str, photos))
    (folder / "a.tar").write_bytes(b"no tar")
    (broken,) = chunks(ledger, *[folder / "a.tar"] * 2)
    assert [row.error for row in broken.rows] == ["archive_broken"]


def test_a_chunk_has_no_more_bytes_than_a_request_may_have(ledger: Ledger, folder: Path):
    found = chunks(ledger, folder)
    assert sorted(photo.path for chunk in found for photo in chunk.photos) == sorted(map(str, folder.iterdir()))
    assert all(sum(photo.size for photo in chunk.photos) <= BYTES for chunk in found)
    (folder / "large.jpg").write_bytes(bytes(2 * BYTES))
    assert [len(chunk.photos) for chunk in chunks(ledger, folder / "large.jpg", folder / "0.jpg")] == [1, 1]


def test_what_is_done_is_only_counted(ledger: Ledger, folder: Path):
    photos = [photo for photo in map(look, map(str, sorted(folder.iterdir()))) if isinstance(photo, FoundPhoto)]
    errors = {"0": "image_broken", "1": "image_format_unsupported", "2": "file_unreadable", "3": "sidecar_broken"}
    for photo in photos[:6]:
        error = errors.get(Path(photo.path).stem)
        scores = None if error else np.array([0.5], np.float32)
        ledger.put([Row(photo.path, photo.size, photo.mtime_ns, scores, error, error)])
    photos_left = [Path(photo.path).stem for chunk in chunks(ledger, folder) for photo in chunk.photos]
    assert sorted(photos_left) == ["1", "2", "3", "6", "7", "8", "9"]
    counts = [(chunk.skipped, chunk.skipped_broken) for chunk in chunks(ledger, folder) if chunk.skipped]
    assert counts == [(3, 1)]


def test_photos_in_archives_come_with_their_bytes(ledger: Ledger, folder: Path, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for photo in folder.iterdir():
            file.write(photo, photo.name)
    found = [photo for chunk in chunks(ledger, tmp_path / "a.zip") for photo in chunk.photos]
    assert sorted(len(photo.read()) for photo in found) == [1000 * (index + 1) for index in range(10)]


def errors(ledger: Ledger) -> dict[str, str | None]:
    return {Path(row.path).name: row.error for page in ledger.pages(0, 100) for row in page}


def test_a_mended_archive_loses_its_error(ledger: Ledger, folder: Path, tmp_path: Path):
    archive = Path(shutil.make_archive(str(folder / "a"), "zip", folder))
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-30])
    for chunk in chunks(ledger, archive):
        ledger.put(chunk.rows)
    ledger.put([Row(str(folder / "deep"), None, None, None, "folder_unreadable", "It could not be read.")])
    assert errors(ledger) == {"a.zip": "archive_broken", "deep": "folder_unreadable"}

    archive.write_bytes(whole)
    chunks(ledger, folder)  # in which the archive is not read
    assert errors(ledger) == {"a.zip": "archive_broken"}
    next(read_chunks([str(archive)], ledger, 1, BYTES))  # a run that is stopped
    assert errors(ledger) == {"a.zip": "archive_broken"}
    chunks(ledger, archive)
    assert errors(ledger) == {}


def test_a_broken_archive_keeps_its_error(ledger: Ledger, tmp_path: Path):
    (tmp_path / "a.tar").write_bytes(b"no tar")
    for _ in range(2):
        for chunk in chunks(ledger, tmp_path / "a.tar"):
            ledger.put(chunk.rows)
    assert errors(ledger) == {"a.tar": "archive_broken"}
