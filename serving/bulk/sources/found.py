"""The results of the search: photos, and error rows for paths that cannot be read."""

import functools
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from labelwise.image import SUFFIXES
from serving.bulk.rows import Row
from serving.client.photos import MAX_BYTES

_APPLE_DOUBLE = "._"  # macOS leaves such files beside others on disks of other systems: photos by name only


@dataclass(frozen=True, slots=True)
class FoundPhoto:
    """A photo that was found and is not yet read. Read a `streamed` one before you take the next from the search."""

    path: str
    size: int
    mtime_ns: int
    read: Callable[[], bytes]
    file: str | None = None  # None in an archive
    streamed: bool = False

    def __post_init__(self) -> None:
        """Moves a time that does not fit into an int64, as the journal and the output need it, to the nearest one."""
        object.__setattr__(self, "mtime_ns", max(-(2**63), min(self.mtime_ns, 2**63 - 1)))

    def loaded(self) -> "FoundPhoto":
        """The same photo with its bytes in memory."""
        return replace(self, read=functools.partial(_same, self.read()), streamed=False)


Found = FoundPhoto | Row  # a photo, or an error row


def unreadable(path: str, error: str, detail: str) -> Row:
    """The row of a photo, folder or archive that was named but cannot be read, or not to its end."""
    return Row(path, None, None, error=error, detail=detail)


def look(file: str) -> Found:
    """The photo in `file`."""
    path = as_text(file)
    try:
        status = os.stat(file)  # noqa: PTH116
    except FileNotFoundError:
        return unreadable(path, "file_missing", "There is no such file.")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return unreadable(path, "file_unreadable", reason(error))
    if not stat.S_ISREG(status.st_mode):  # reading a named pipe would never end
        return unreadable(path, "file_unreadable", "It is not a file.")
    return sized(FoundPhoto(path, status.st_size, status.st_mtime_ns, functools.partial(read_file, file), file))


def sized(photo: FoundPhoto) -> Found:
    """The photo, unless it is too large to be one."""
    if photo.size <= MAX_BYTES:
        return photo
    return unreadable(photo.path, "file_too_large", f"It has more than {MAX_BYTES // 2**20} MiB.")


def is_photo(name: str) -> bool:
    """Whether a file is a photo by its name. Other files among photos are not opened."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(_APPLE_DOUBLE)


def as_text(path: str) -> str:
    """A path as the output has it: valid UTF-8, even if the file's name is not."""
    return os.fsencode(Path(path)).decode("utf-8", "backslashreplace")


def read_file(file: str) -> bytes:
    with open(file, "rb") as stream:  # noqa: PTH123
        return stream.read(MAX_BYTES)  # the file may have grown since it was found


def reason(error: OSError | ValueError) -> str:
    """An error as the detail of a row."""
    return f"It cannot be read: {getattr(error, 'strerror', None) or error}."


def _same(data: bytes) -> bytes:
    return data
