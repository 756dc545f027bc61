"""Describes what is at a place that is refused as data, or used only in part."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from training.data.labelled_data import counted, some
from training.data.layouts.splits import files_below, is_hidden, is_photo

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def describe_contents(place: Path) -> str:
    """What is at `place`, in one line."""
    if not place.exists():
        return "nothing is there"
    if not place.is_dir():
        more = ", an archive: unpack it first" if place.name.lower().endswith(_ARCHIVES) else ""
        return f"it is a file{more}"
    try:
        entries = sorted(entry for entry in place.iterdir() if not is_hidden(entry.name))
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    folders = [entry.name for entry in entries if entry.is_dir()]
    others = [entry.name for entry in entries if entry.is_file() and not is_photo(entry.name)]
    photos = sum(1 for entry in entries if entry.is_file() and is_photo(entry.name))
    found = [
        f"{counted(len(folders), 'folder')} ({some(folders)})" if folders else "",
        counted(photos, "photo") if photos else "",
        f"{counted(len(others), 'other file')} ({some(others)})" if others else "",
    ]
    return f"found {', '.join(filter(None, found))}" if entries else "the folder is empty"


def unlisted(source: Path, listed: Collection[Path]) -> Iterator[str]:
    """Notes on the photos in the folder `source` that the data does not name, by folder."""
    if not listed or not source.is_dir():
        return
    named = {os.path.abspath(file) for file in listed}  # noqa: PTH100 (links stay as they are)
    places: Counter[str] = Counter()
    hidden_photos = 0
    for file, hidden in files_below(source):
        if not is_photo(file.name) or os.path.abspath(file) in named:  # noqa: PTH100
            continue
        if hidden:
            hidden_photos += 1
        else:
            parts = file.relative_to(source).parts
            places[f"{parts[0]}/" if len(parts) > 1 else "the folder itself"] += 1
    if count := sum(places.values()):
        where = some([f"{place} ({number})" for place, number in places.items()])
        yield f"Left out, because nothing here labels them: {counted(count, 'photo')}, in {where}."
    if hidden_photos:
        yield f"Left out: {counted(hidden_photos, 'photo')} in folders that are hidden or of other programs."
