"""Finds photos in files, folders, globs, lists and archives, one after the other and never all in memory.

A photo's path in the output is the one it was found by, without `./` and `//`. A photo in an archive is called
`archive.zip/name/in/it.jpg`, which no file can be called. Folders are read to the bottom, links followed, each folder
once: links are followed last, so that a photo is called by its own folder if that is read too.
"""

import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from labelwise.image import SUFFIXES
from serving.bulk.rows import Row
from serving.bulk.sources.archives import ARCHIVES, read_archive
from serving.bulk.sources.found import Found, as_text, is_photo, look, reason, unreadable
from serving.bulk.sources.lists import LISTS, read_list, read_stdin
from serving.bulk.sources.selection import Selection, in_program_folder
from serving.bulk.tag_errors import UsageError

STDIN = "-"
_EFFECTIVE = os.access in os.supports_effective_ids
_WILD = re.compile("[*?[]")
_DEEP = re.compile(r"(?:^|(?<=/))\*\*(?:/+\*\*)*(?:/+|$)")  # the part `**/` of a glob

Visited = set[tuple[int, int]]  # device and inode of folders


def check_sources(paths: Sequence[str], *, sidecars: bool = False) -> None:
    """Raises UsageError if a path is wrong at first sight; with `sidecars` also for archives."""
    for path in paths:
        if path == STDIN:
            if sys.stdin is None:
                raise UsageError("Standard input is closed: there are no paths on it.")
            continue
        is_itself = os.path.lexists(path)
        if not is_itself and next(matches(path, Selection(hidden=True)), None) is None:
            raise UsageError(f"There is nothing at {path}: name a photo, a folder, a glob, a list or an archive.")
        if is_itself and path.lower().endswith(LISTS) and not os.access(path, os.R_OK, effective_ids=_EFFECTIVE):
            raise UsageError(f"{path} cannot be read: permission is denied, or it is a link to nothing.")
        if sidecars and path.lower().endswith(ARCHIVES) and not os.path.isdir(path):  # noqa: PTH112
            raise UsageError(f"Photos in an archive cannot have sidecars: unpack {path}, or tag it without sidecars.")


def find_photos(paths: Sequence[str], out: str | None = None, selection: Selection | None = None) -> Iterator[Found]:
    """Every photo of `paths`, in no particular order, without the files that a run with the output `out` makes."""
    visited, selection = Visited(), selection or Selection()
    for path in named(paths, out, selection):
        if path != STDIN and os.path.isdir(path):  # noqa: PTH112 (Path raises for a name that no file can have)
            found_below = photos_below(path, visited, selection)
            yield from (found if isinstance(found, Row) else look(found) for found in found_below)
        else:
            yield from (found for found in _read(path, selection) if not _is_own(found.path, out))


def count_photos(paths: Sequence[str], out: str | None = None, selection: Selection | None = None) -> int | None:
    """How many photos `find_photos` gives; None if they must be read to know."""
    count, visited, selection = 0, Visited(), (selection or Selection()).uncounted()
    for path in named(paths, out, selection):
        if path == STDIN or path.lower().endswith(ARCHIVES + LISTS):
            return None
        count += sum(1 for _ in photos_below(path, visited, selection)) if os.path.isdir(path) else 1  # noqa: PTH112
    return count


def named(paths: Sequence[str], out: str | None, selection: Selection) -> Iterator[str]:
    """What `paths` name themselves, and what their globs match that can hold a photo."""
    by_shell = any(path != STDIN and os.path.lexists(path) and not in_program_folder(path) for path in paths)
    for path in paths:
        is_itself = path == STDIN or os.path.lexists(path)
        spelled = path if is_itself else os.path.dirname(_WILD.split(path, maxsplit=1)[0])  # noqa: PTH120
        meant = "" if is_itself and by_shell else spelled  # a shell expands `*` to `@eaDir` too, but not to it alone
        for name in [path] if is_itself else filter(_may_hold_photos, matches(path, selection)):
            is_folder = os.path.isdir(name)  # noqa: PTH112
            is_taken = name == STDIN or selection.takes_named(name, meant=meant, is_folder=is_folder)
            if is_taken and not _is_own(name, out):
                yield name


def _may_hold_photos(path: str) -> bool:
    name = os.path.basename(path)  # noqa: PTH119 (there may be millions)
    return is_photo(name) or name.lower().endswith(ARCHIVES + LISTS) or os.path.isdir(path)  # noqa: PTH112


def _is_own(path: str, out: str | None) -> bool:
    """Whether tagging makes this file: a sidecar, the output or a part of it, or the journal's files."""
    name = path.lower()
    if name.endswith(SUFFIXES) or out is None:
        return False
    here, output = os.path.realpath(path), os.path.realpath(out)
    return name.endswith(".xmp") or here == output or here.startswith((output + os.sep, output + ".journal"))


def _read(path: str, selection: Selection) -> Iterator[Found]:
    """The photos in a list, an archive or a file."""
    if path == STDIN:
        yield from (found for found in read_stdin() if selection.takes_listed(found.path))
    elif path.lower().endswith(LISTS):
        yield from (found for found in read_list(path) if selection.takes_listed(found.path))
    elif path.lower().endswith(ARCHIVES):
        yield from read_archive(path, selection)
    else:
        yield look(path)


def photos_below(folder: str, visited: Visited, selection: Selection) -> Iterator[str | Row]:
    """The files of photos in `folder` and below."""
    for found in _walk(folder, visited, selection):
        if isinstance(found, Row):
            yield found
        elif not isinstance(found, str) and is_photo(found.name) and selection.takes(found.path, is_folder=False):
            yield found.path


def matches(pattern: str, selection: Selection) -> Iterator[str]:
    """Like `glob.iglob`, but `**` visits each folder once, even if links lead to it twice or in a circle."""
    deep = _DEEP.search(pattern)
    if not deep:
        yield from glob.iglob(pattern)  # noqa: PTH207 (Path.glob takes no absolute pattern)
        return
    head, tail = pattern[: deep.start()], pattern[deep.end() :] or "*"
    for top in glob.iglob(head) if head else ("",):  # noqa: PTH207
        for folder in _folders(top, selection):
            yield from matches(glob.escape(folder) + tail, selection)


def _folders(top: str, selection: Selection) -> Iterator[str]:
    """`top` and the folders below, each as the beginning of its files' paths."""
    for found in _walk(top or os.curdir, set(), selection):
        if isinstance(found, str):
            names = Path(os.path.relpath(found, top or os.curdir)).parts
            yield os.path.join(top, *names, "")  # noqa: PTH118


def _walk(folder: str, visited: Visited, selection: Selection) -> Iterator[str | os.DirEntry[str] | Row]:
    """`folder` and those below, each followed by its files. Links come last, so that each folder has its own path."""
    folders, links = [folder], list[str]()
    while folders or links:
        current = folders.pop() if folders else links.pop()
        try:
            status = os.stat(current)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            yield current
            with os.scandir(current) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        if selection.takes(entry.path, is_folder=True):
                            (links if entry.is_symlink() else folders).append(entry.path)
                    else:
                        yield entry
        except OSError as error:
            yield unreadable(as_text(current), "folder_unreadable", reason(error))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """False for a link in a circle or into a closed folder, so that one named like a photo gets its row."""
    try:
        return entry.is_dir()
    except OSError:
        return False
