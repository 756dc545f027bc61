"""Sidecar files: where they are, whether they have their photo's tags, and how they get them.

darktable, digiKam and Immich read `photo.jpg.xmp`. Lightroom and Bridge read `photo.xmp`, and only beside raw files.
"""

import errno
import functools
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from labelwise.files import left_aside, write_atomically
from labelwise.spec import TaggerSpec
from serving.bulk.rows import Row, tags_of
from serving.bulk.sources.found import FoundPhoto
from serving.bulk.xmp.keywords import MARK, add_keywords, has_other_marks, merge
from serving.bulk.xmp.new_packet import keywords_in, packet_of
from serving.bulk.xmp.packet import LARGEST, Packet, PacketError

_LOCKS = tuple(threading.Lock() for _ in range(64))  # photo.jpg and photo.heic may change one photo.xmp at once
_ASIDE = re.compile(r"\..+\.(?P<process>[0-9]+)-[0-9a-f]{8}")  # how `write_atomically` names a file that it writes
_QUIET = 60.0  # seconds without a change: then no process on another machine is still writing a file


class SidecarError(Exception):
    """The sidecar cannot be changed without losing content."""


@dataclass(frozen=True)
class Sidecars:
    """The sidecars of all photos, photo.jpg.xmp or with `stem` photo.xmp. Photos in archives have none."""

    stem: bool = False

    def path(self, file: str) -> Path:
        """The sidecar of a photo. An existing one may end in .XMP."""
        path = Path(file).with_suffix(".xmp") if self.stem else Path(file + ".xmp")
        upper = path.with_suffix(".XMP")
        return upper if not os.path.lexists(path) and os.path.lexists(upper) else path

    def done(self, photo: FoundPhoto, row: Row, spec: TaggerSpec) -> bool:
        """Whether the sidecar has the tags of the row and no others of ours, or there can be no sidecar."""
        if photo.file is None or row.scores is None:
            return True
        try:
            packet = Packet.parse(_read(self.path(photo.file)))
            return not merge(packet, tags_of(row.scores, spec), self._mark(photo.file))
        except (OSError, PacketError):
            return False

    def add(self, photos: Sequence[FoundPhoto], rows: Sequence[Row], spec: TaggerSpec) -> list[Row]:
        """Write the sidecars of `photos`. Where that fails, the row says so."""
        return [self._add(photo, row, spec) for photo, row in zip(photos, rows, strict=True)]

    def _add(self, photo: FoundPhoto, row: Row, spec: TaggerSpec) -> Row:
        if photo.file is None or row.scores is None:
            return row
        path = self.path(photo.file)
        try:
            with _LOCKS[hash(path) % len(_LOCKS)]:
                self._write(path, photo.file, tags_of(row.scores, spec))
        except SidecarError as error:
            return replace(row, error="sidecar_broken", detail=str(error))
        except OSError as error:
            detail = f"The sidecar cannot be written: {error.strerror or error}."
            return replace(row, error="sidecar_unwritable", detail=detail)
        return row

    def _write(self, path: Path, file: str, tags: Sequence[str]) -> None:
        mark = self._mark(file)

        def edit(packet: Packet) -> bool:
            if self.stem and has_other_marks(packet, mark):  # it hides this photo's own keywords
                add_keywords(packet, keywords_in(file))
            return merge(packet, tags, mark)

        write_sidecar(path, lambda: packet_of(file, () if self.stem else _beside(file)), edit)

    def _mark(self, file: str) -> str:
        """Our property that lists the photo's keywords. Photos that share a sidecar have one each."""
        suffix = Path(file).suffix if self.stem else ""
        return MARK + re.sub("[^.A-Za-z0-9]", lambda found: f"-{ord(found[0]):x}", suffix)


def write_sidecar(file: Path, new: Callable[[], Packet], edit: Callable[[Packet], bool]) -> None:
    """Change a sidecar atomically with `edit`, which returns whether it changed it. `new` makes a missing sidecar.

    Raises SidecarError or OSError.
    """
    try:
        before, status = _read(file), file.stat()
    except FileNotFoundError:
        before, status = b"", None
    try:
        packet = Packet.parse(before) if before.strip() else new()
        if not edit(packet) and before.strip():
            return
        after = packet.to_bytes()
    except PacketError as error:
        raise SidecarError(f"The existing sidecar {error}") from error
    file = file.resolve()  # a link stays a link
    _remove_leftovers(file)
    if status is None:
        write_atomically(file, after)
        return
    mode = stat.S_IMODE(status.st_mode)
    write_atomically(file, after, mode)
    with suppress(OSError):  # the disk may have no owners, and only root may give a file away
        os.chown(file, status.st_uid, status.st_gid)
    with suppress(OSError):
        file.chmod(mode)  # what the umask took


def _remove_leftovers(file: Path) -> None:
    """Delete what killed processes left beside a sidecar while they wrote it."""
    with suppress(OSError):  # a sidecar may be writable although its folder cannot be listed
        for aside in left_aside(file, _asides_in(file.parent)):
            if time.time() - aside.stat().st_mtime > _QUIET and not _is_writing(aside):
                aside.unlink()


@functools.lru_cache(64)
def _asides_in(folder: Path) -> tuple[Path, ...]:
    """Looked up once, and not for each sidecar: a folder may have a million files."""
    with os.scandir(folder) as entries:
        return tuple(Path(entry.path) for entry in entries if _ASIDE.fullmatch(entry.name))


def _is_writing(aside: Path) -> bool:
    """Whether another process of this machine may be writing it. This one is not: it holds the sidecar's lock."""
    named = _ASIDE.fullmatch(aside.name)
    if named is None or os.name == "nt":  # Windows has no signal 0
        return True
    process = int(named["process"])
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return process != os.getpid()


def _beside(file: str) -> list[bytes]:
    """Lightroom's sidecar of the photo: darktable and Immich read it if there is no other."""
    path = Sidecars(stem=True).path(file)
    try:
        return [_read(path)]
    except OSError:
        return []


def _read(file: Path) -> bytes:
    """The file's bytes, at most one more than a sidecar may have. Raises OSError."""
    if not stat.S_ISREG(file.stat().st_mode):  # reading a named pipe would never end
        raise OSError(errno.EINVAL, "the existing path is not a file")
    with file.open("rb") as stream:
        return stream.read(LARGEST + 1)
