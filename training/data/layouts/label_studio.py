"""Label Studio's exports: JSON, JSON-MIN, CSV and TSV, with choices or labelled regions of photos."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from labelwise.errors import DataError
from training.data.labelled_data import LabelledData, counted, some
from training.data.layouts.entries import Entry, entries_to_data
from training.data.layouts.label_studio_file import AnnotatedPhoto, read_photos
from training.data.layouts.layout_files import Finder, check_any_found, read_head
from training.data.layouts.splits import photos_below

NAME = "Label Studio's export"
LAYOUT = "Label Studio's JSON, JSON-MIN, CSV or TSV with choices, beside the photos"

_TABLES = (".csv", ".tsv")
_TASKS = re.compile(r'"(?:completed_by|was_cancelled|annotation_id|file_upload|total_annotations)"\s*:')
_COLUMNS = re.compile(r"\bannotation_id\b")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # precedes the name of every uploaded photo


def recognises(source: Path) -> bool:
    return bool(_exports(source))


def read(source: Path, seed: int) -> LabelledData:
    """A label is present if all annotators of a photo chose it, unknown if only some did. Raises DataError."""
    exports = _exports(source)
    if len(exports) > 1:
        raise DataError(f"{source} holds several exports of Label Studio: give one of {some(list(map(str, exports)))}.")
    (file,) = exports
    photos, notes = read_photos(file)
    annotated = [photo for photo in photos if photo.choices]
    if not annotated:
        raise DataError(f"{file} has no annotated photos.")
    if (missing := len(photos) - len(annotated)) and source.is_file():
        notes.append(f"Left out: {counted(missing, 'photo')} that nobody annotated.")
    files = _find_photos(annotated, file)
    entries = [Entry(path, *_agreed(photo)) for path, photo in zip(files, annotated, strict=True)]
    if doubts := sum(bool(entry.unknown) for entry in entries):
        notes.append(
            f"Annotators differ about {counted(doubts, 'photo')}: what only some of them chose is unknown there."
        )
    if not any(entry.present or entry.unknown for entry in entries):
        raise DataError(" ".join([f"{file} has no choices and no labels of regions.", *notes]))
    return entries_to_data(entries, layout=f"{NAME} ({file.name})", source=source, seed=seed, notes=notes)


def _exports(source: Path) -> list[Path]:
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    return [file for file in files if file.is_file() and _is_export(file)]


def _is_export(file: Path) -> bool:
    """Reads only the beginning: the file may be of any size."""
    suffix = file.suffix.lower()
    if suffix in _TABLES:
        return bool(_COLUMNS.search(read_head(file).partition("\n")[0]))
    head = read_head(file).lstrip("\ufeff \t\r\n") if suffix == ".json" else ""
    return head.startswith("[") and bool(_TASKS.search(head))


def _agreed(photo: AnnotatedPhoto) -> tuple[set[str], set[str]]:
    """The labels that every annotator chose, and those that only some chose."""
    counts = Counter(label for chosen in photo.choices for label in chosen)
    present = {label for label, count in counts.items() if count == len(photo.choices)}
    return present, {*counts} - present


def _find_photos(photos: Sequence[AnnotatedPhoto], file: Path) -> list[Path]:
    roots = [root for name in (".", "images", "media", "upload", "data") if (root := file.parent / name).is_dir()]
    finder = Finder(roots, file)
    uploads = _by_uploaded_name(file.parent)
    found = [_find(photo.name, finder, uploads, file) for photo in photos]
    check_any_found(found, [photo.name for photo in photos], finder.roots, file)
    return [path or file.parent / _names(photo.name)[-1] for path, photo in zip(found, photos, strict=True)]


def _find(photo: str, finder: Finder, uploads: Mapping[str, list[Path]], file: Path) -> Path | None:
    """By its path or the name at its end, then by its name before the upload."""
    names = _names(photo)
    if found := next((found for name in names if (found := finder.find(name))), None):
        return found
    files = next((files for name in names if (files := uploads.get(name.rpartition("/")[2]))), [])
    if len(files) > 1:
        raise DataError(f"{file} names the photo {photo}, which {len(files)} files fit: {some(list(map(str, files)))}.")
    return files[0] if files else None


def _names(photo: str) -> list[str]:
    """Possible names of the file: /data/upload/1/0a1b2c3d-cat.jpg, then cat.jpg; for local files the URL's `d`."""
    url = urlsplit(photo) if "?" in photo else None
    if url and (local := parse_qs(url.query).get("d")):
        return [f"/{local[0]}"]
    path = photo.partition("?")[0] if url else photo
    base = path.replace("\\", "/").rpartition("/")[2]
    bare = _UPLOAD.sub("", base)
    return [path, base] if bare == base else [path, base, bare]


def _by_uploaded_name(folder: Path) -> dict[str, list[Path]]:
    """Photos by their names in Label Studio, which replaces spaces by underscores and drops other signs."""
    found: dict[str, list[Path]] = {}
    for file in photos_below(folder):
        found.setdefault(re.sub(r"[^-\w.]", "", file.name.strip().replace(" ", "_")), []).append(file)
    return found
