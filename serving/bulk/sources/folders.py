"""Walks folders and globs: each folder once, links followed, a few names in memory at a time."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from serving.bulk.rows import Row
from serving.bulk.sources.found import as_text, is_photo, reason, unreadable
from serving.bulk.sources.selection import Selection

_DEEP = re.compile(r"(?:^|(?<=/))\*\*(?:/+\*\*)*(?:/+|$)")  # the part `**/` of a glob

Visited = set[tuple[int, int]]  # device and inode of folders


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
