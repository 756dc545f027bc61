"""Where photos come from: files, folders, globs, lists and archives, one after the other and never all in memory.

A photo's path in the output is the one it was found by, `./` and `//` taken out; a photo in an archive is called
`archive.zip/name/in/it.jpg`, which no file can be called. Folders are read to the bottom, links followed, each folder
once: links are followed last, so that a photo is called by its own folder wherever that is read too.
"""

import functools
import glob
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labelwise.image import SUFFIXES
from serving.bulk.errors import UsageError
from serving.bulk.selection import Selection, in_program_folder
from serving.client.photos import MAX_BYTES

STDIN = "-"
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
LISTS = (".csv", ".tsv", ".parquet")
_EFFECTIVE = os.access in os.supports_effective_ids
_DEEP = re.compile(r"(?:^|(?<=/))\*\*(?:/+\*\*)*(?:/+|$)")  # of a glob, a whole name
_WILD = re.compile("[*?[]")
_APPLE_DOUBLE = "._"  # what macOS leaves beside files on other systems' disks: a photo by name only


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo that was found, not yet read; what `read` of a `streamed` one gives must be taken before the next."""

    path: str
    size: int
    mtime_ns: int
    read: Callable[[], bytes]
    file: str | None = None  # None in an archive
    streamed: bool = False

    def __post_init__(self) -> None:
        """A time that is no int64, which the journal and the output hold, becomes the nearest that is one."""
        object.__setattr__(self, "mtime_ns", max(-(2**63), min(self.mtime_ns, 2**63 - 1)))

    def loaded(self) -> "Photo":
        """The same with its bytes in memory."""
        return replace(self, read=functools.partial(_same, self.read()), streamed=False)


@dataclass(frozen=True)
class Unreadable:
    """A photo, folder or archive that was named but cannot be read, or not to its end."""

    path: str
    code: str
    detail: str


Found = Photo | Unreadable


def check_sources(paths: Sequence[str], *, sidecars: bool = False) -> None:
    """Refuse at once what can be seen to be wrong; with `sidecars` also archives. Raises UsageError."""
    for path in paths:
        if path == STDIN:
            if sys.stdin is None:
                raise UsageError("Standard input is closed: there are no paths on it.")
            continue
        is_itself = os.path.lexists(path)
        if not is_itself and next(_matches(path, Selection(hidden=True)), None) is None:
            raise UsageError(f"There is nothing at {path}: name a photo, a folder, a glob, a list or an archive.")
        if is_itself and path.lower().endswith(LISTS) and not os.access(path, os.R_OK, effective_ids=_EFFECTIVE):
            raise UsageError(f"{path} cannot be read: permission is denied, or it is a link to nothing.")
        if sidecars and path.lower().endswith(ARCHIVES) and not os.path.isdir(path):  # noqa: PTH112
            raise UsageError(f"Photos in an archive can have no sidecar: unpack {path}, or tag it without sidecars.")


def find_photos(paths: Sequence[str], out: str | None = None, selection: Selection | None = None) -> Iterator[Found]:
    """Every photo of `paths`, in no particular order; what a run that writes `out` makes is no photo."""
    folders, selection = set[tuple[int, int]](), selection or Selection()
    for path in named(paths, out, selection):
        if path != STDIN and os.path.isdir(path):  # noqa: PTH112 (a name that no file can have is no folder)
            walked = _walk(path, folders, selection)
            yield from (found if isinstance(found, Unreadable) else look(found) for found in walked)
        else:
            yield from (found for found in _open(path, selection) if not _is_own(found.path, out))


def count_photos(paths: Sequence[str], out: str | None = None, selection: Selection | None = None) -> int | None:
    """How many `find_photos` will give; None where only reading it all would tell."""
    count, folders, selection = 0, set[tuple[int, int]](), (selection or Selection()).uncounted()
    for path in named(paths, out, selection):
        if path == STDIN or path.lower().endswith(ARCHIVES + LISTS):
            return None
        count += sum(1 for _ in _walk(path, folders, selection)) if os.path.isdir(path) else 1  # noqa: PTH112
    return count


def look(file: str, path: str | None = None) -> Found:
    """The photo in `file`, called `path`."""
    path = as_text(file) if path is None else path
    try:
        status = os.stat(file)  # noqa: PTH116
    except FileNotFoundError:
        return Unreadable(path, "file_missing", "There is no such file.")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return Unreadable(path, "file_unreadable", _reason(error))
    if not stat.S_ISREG(status.st_mode):  # a named pipe would be waited for without end
        return Unreadable(path, "file_unreadable", "It is not a file.")
    return sized(Photo(path, status.st_size, status.st_mtime_ns, functools.partial(read_file, file), file))


def sized(photo: Photo) -> Found:
    """The photo, unless it is too large to be one."""
    if photo.size <= MAX_BYTES:
        return photo
    return Unreadable(photo.path, "file_too_large", f"It has more than {MAX_BYTES // 2**20} MiB.")


def as_text(path: str) -> str:
    """A path as the output has it: valid UTF-8, also where the file's name is not."""
    return os.fsencode(Path(path)).decode("utf-8", "backslashreplace")


def named(paths: Sequence[str], out: str | None, selection: Selection) -> Iterator[str]:
    """What `paths` name themselves, and of a glob what can hold a photo."""
    by_shell = any(path != STDIN and os.path.lexists(path) and not in_program_folder(path) for path in paths)
    for path in paths:
        is_itself = path == STDIN or os.path.lexists(path)
        spelled = path if is_itself else os.path.dirname(_WILD.split(path, maxsplit=1)[0])  # noqa: PTH120
        meant = "" if is_itself and by_shell else spelled  # a shell puts `@eaDir` for `*`, but not alone
        for name in [path] if is_itself else filter(_may_hold_photos, _matches(path, selection)):
            is_folder = os.path.isdir(name)  # noqa: PTH112
            is_taken = name == STDIN or selection.takes_named(name, meant=meant, is_folder=is_folder)
            if is_taken and not _is_own(name, out):
                yield name


def _matches(pattern: str, selection: Selection) -> Iterator[str]:
    """As `glob.iglob` has it, but `**` takes each folder once: it may be in a circle of links, or in many."""
    deep = _DEEP.search(pattern)
    if not deep:
        yield from glob.iglob(pattern)  # noqa: PTH207 (Path.glob takes no absolute pattern)
        return
    head, tail = pattern[: deep.start()], pattern[deep.end() :] or "*"
    for top in glob.iglob(head) if head else ("",):  # noqa: PTH207
        for folder in _folders(top, selection):
            yield from _matches(glob.escape(folder) + tail, selection)


def _folders(top: str, selection: Selection) -> Iterator[str]:
    """`top` and those below, as the beginnings of names."""
    for found in _read(top or os.curdir, set(), selection):
        if isinstance(found, str):
            names = Path(os.path.relpath(found, top or os.curdir)).parts
            yield os.path.join(top, *names, "")  # noqa: PTH118


def _may_hold_photos(path: str) -> bool:
    name = os.path.basename(path)  # noqa: PTH119 (there may be millions)
    return is_photo(name) or name.lower().endswith(ARCHIVES + LISTS) or os.path.isdir(path)  # noqa: PTH112


def _is_own(path: str, out: str | None) -> bool:
    """Whether tagging made it: a sidecar, the output or a part of it, the journal or what SQLite has beside it."""
    name = path.lower()
    if name.endswith(SUFFIXES) or out is None:
        return False
    here, output = os.path.realpath(path), os.path.realpath(out)
    return name.endswith(".xmp") or here == output or here.startswith((output + os.sep, output + ".journal"))


def _open(path: str, selection: Selection) -> Iterator[Found]:
    from serving.bulk import archives, lists

    if path == STDIN:
        yield from (found for found in lists.read_stdin() if selection.takes_listed(found.path))
    elif path.lower().endswith(LISTS):
        yield from (found for found in lists.read_list(path) if selection.takes_listed(found.path))
    elif path.lower().endswith(ARCHIVES):
        yield from archives.read_archive(path, selection)
    else:
        yield look(path)


def _walk(folder: str, seen: set[tuple[int, int]], selection: Selection) -> Iterator[str | Unreadable]:
    """The photos in `folder` and below."""
    for found in _read(folder, seen, selection):
        if isinstance(found, Unreadable):
            yield found
        elif not isinstance(found, str) and is_photo(found.name) and selection.takes(found.path, is_folder=False):
            yield found.path


def _read(
    folder: str, seen: set[tuple[int, int]], selection: Selection
) -> Iterator[str | os.DirEntry[str] | Unreadable]:
    """`folder` and those below, each once, followed by its files. No more is kept than which folders are in one."""
    folders, links = [folder], list[str]()
    while folders or links:
        current = folders.pop() if folders else links.pop()
        try:
            status = os.stat(current)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            yield current
            with os.scandir(current) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        if not selection.takes(entry.path, is_folder=True):
                            continue
                        (links if entry.is_symlink() else folders).append(entry.path)
                    else:
                        yield entry
        except OSError as error:
            yield Unreadable(as_text(current), "folder_unreadable", _reason(error))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Not so a link that leads round in a circle or into a closed folder: one named like a photo gets its row."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_photo(name: str) -> bool:
    """By its name: what else lies among photos is not opened."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(_APPLE_DOUBLE)


def read_file(file: str) -> bytes:
    with open(file, "rb") as stream:  # noqa: PTH123
        return stream.read(MAX_BYTES)  # it may have grown meanwhile


def _same(data: bytes) -> bytes:
    return data


def _reason(error: OSError | ValueError) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return f"It cannot be read: {reason}."
