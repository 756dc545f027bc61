"""Photos in tars, WebDataset shards among them, which are read as a stream, and in zips.

If several members have one name, the last one counts, as when an archive is unpacked: `tar -u` appends what has
changed. Names that differ by `./`, `//` or a leading `/` are the same.
"""

import calendar
import functools
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePosixPath

from serving.bulk.sources.found import Found, FoundPhoto, as_text, is_photo, sized, unreadable
from serving.bulk.sources.selection import Selection

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)


def read_archive(path: str, selection: Selection | None = None) -> Iterator[Found]:
    """The photos in an archive; if it is damaged, those before the damage, then the row of the archive."""
    selection = selection or Selection()
    read = _read_zip if path.lower().endswith(".zip") else _read_tar
    try:
        yield from read(path, selection)
    except BROKEN as error:
        yield unreadable(as_text(path), "archive_broken", f"It cannot be read to its end: {error}.")


class _CheckedInfo(tarfile.TarInfo):
    """Raises for a damaged header, which tarfile takes for the end of the archive: photos after it would be lost."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_CheckedInfo":
        try:
            return super().fromtarfile(tarfile_)
        except (tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from error


def _read_tar(path: str, selection: Selection) -> Iterator[Found]:
    last = _last_offsets(path)
    with tarfile.open(path, "r|*", tarinfo=_CheckedInfo) as tar:
        for member in _photos_in(tar):
            name = _within(path, member.name)
            if member.offset < last.get(name, 0) or not selection.takes_member(path, member.name):
                continue
            if member.isfile():
                stream = tar.extractfile(member)
                assert stream is not None  # every file has one
                yield sized(FoundPhoto(name, member.size, _tar_time(member), stream.read, streamed=True))
            elif member.islnk() or member.issym():  # the stream may have passed what it leads to
                detail = f"It is a link in the archive to {as_text(member.linkname)}, and those are not followed."
                yield unreadable(name, "file_unreadable", detail)


def _last_offsets(path: str) -> dict[str, int]:
    """Where the last member of each name begins, as far as the archive is readable."""
    offsets: dict[str, int] = {}
    if os.path.isfile(path):  # noqa: PTH113 (a pipe can be read only once)
        with suppress(*BROKEN), tarfile.open(path, tarinfo=_CheckedInfo) as tar:
            for member in _photos_in(tar):
                offsets[_within(path, member.name)] = member.offset
    return offsets


def _photos_in(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # otherwise it keeps every header
        if is_photo(PurePosixPath(member.name).name):
            yield member


def _tar_time(member: tarfile.TarInfo) -> int:
    """Nanoseconds since 1970."""
    try:
        return int(member.mtime * 1_000_000_000)
    except (OverflowError, ValueError):  # a pax header may say inf or nan
        return 0


def _read_zip(path: str, selection: Selection) -> Iterator[Found]:
    with zipfile.ZipFile(path) as file:
        last = {_within(path, member.filename): member for member in file.infolist() if not member.is_dir()}
        for name, member in last.items():
            if is_photo(PurePosixPath(name).name) and selection.takes_member(path, member.filename):
                read = functools.partial(_read_member, file, member)
                yield sized(FoundPhoto(name, member.file_size, _zip_time(member), read, streamed=True))


def _read_member(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """As many bytes as the member claims to have: `ZipFile.read` unpacks all there are, up to 2 GiB."""
    with file.open(member) as stream:
        return stream.read(member.file_size)


def _zip_time(member: zipfile.ZipInfo) -> int:
    """Nanoseconds since 1970."""
    try:
        return calendar.timegm((*member.date_time, 0, 0, 0)) * 1_000_000_000
    except ValueError:  # reproducible builds write a month 0
        return 0


def _within(archive: str, name: str) -> str:
    return f"{as_text(archive)}/{as_text(name.lstrip('/'))}"
