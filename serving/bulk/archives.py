"""Photos in WebDataset shards and other tars, read as a stream, and in zips."""

import calendar
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath

from serving.bulk.sources import Found, Photo, Unreadable, as_text, is_photo, sized

BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)


def read_archive(path: str) -> Iterator[Found]:
    """Its photos; and where it is damaged, itself, after those before the damage."""
    try:
        yield from _read_zip(path) if path.lower().endswith(".zip") else _read_tar(path)
    except BROKEN as error:
        yield Unreadable(as_text(path), "archive_broken", f"It cannot be read to its end: {error}.")


class _CheckedInfo(tarfile.TarInfo):
    """tarfile itself takes a damaged header for the end of the archive, and what comes after it would be lost."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_CheckedInfo":
        try:
            return super().fromtarfile(tarfile_)
        except (tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from error


def _read_tar(path: str) -> Iterator[Found]:
    with tarfile.open(path, "r|*", tarinfo=_CheckedInfo) as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # it would keep every header it has seen
            if member.isfile() and is_photo(PurePosixPath(member.name).name):
                stream = tar.extractfile(member)
                assert stream is not None  # only what is no file has none
                yield sized(
                    Photo(
                        _within(path, member.name),
                        member.size,
                        int(member.mtime * 1_000_000_000),
                        stream.read,
                        streamed=True,
                    )
                )


def _read_zip(path: str) -> Iterator[Found]:
    with zipfile.ZipFile(path) as file:
        for member in file.infolist():
            if not member.is_dir() and is_photo(PurePosixPath(member.filename).name):
                mtime = calendar.timegm((*member.date_time, 0, 0, 0)) * 1_000_000_000
                yield sized(
                    Photo(
                        _within(path, member.filename),
                        member.file_size,
                        mtime,
                        lambda member=member: file.read(member),  # type: ignore[misc]
                        streamed=True,
                    )
                )


def _within(archive: str, name: str) -> str:
    return f"{as_text(archive)}/{as_text(name.lstrip('/'))}"
