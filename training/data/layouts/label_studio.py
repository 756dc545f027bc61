"""Label Studio's exports: JSON, JSON-MIN, CSV and TSV, with choices or labelled regions of photos."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from labelwise.annotators import agreed
from labelwise.errors import DataError
from labelwise.label_names import clean_name, some
from training.data.labelled_data import LabelledData, counted
from training.data.layouts.csv_list import read_rows
from training.data.layouts.entries import Entry, entries_to_data
from training.data.layouts.folders import is_photo, photos_below
from training.data.layouts.layout_files import Finder, parse_json, read_head, read_text

NAME = "Label Studio's export"
LAYOUT = "Label Studio's JSON, JSON-MIN, CSV or TSV with choices, beside the photos"

_TABLES = (".csv", ".tsv")
_TASKS = re.compile(r'"(?:completed_by|was_cancelled|annotation_id|file_upload|total_annotations)"\s*:')
_COLUMNS = re.compile(r"\bannotation_id\b")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # precedes the name of every uploaded photo
# The keys of JSON-MIN and CSV that are not results.
_ABOUT = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"}
_RESULTS = ("choice", "label", "class", "tag")  # in the names of results
_RESULT = re.compile(r'\{"choices":|\[\{.*"[a-z]*labels":', re.DOTALL)  # in a cell of a CSV


# By the names of the photos, the labels that each annotator chose. An empty list: nobody annotated the photo.
_Choices = dict[str, list[set[str]]]


def recognises(source: Path) -> bool:
    return bool(_exports(source))


def read(source: Path, seed: int) -> LabelledData:
    """A label is present if all annotators of a photo chose it, unknown if only some did. Raises DataError."""
    exports = _exports(source)
    if len(exports) > 1:
        raise DataError(f"{source} holds several exports of Label Studio: give one of {some(list(map(str, exports)))}.")
    (file,) = exports
    entries, notes = read_entries(file, tell_missing=source.is_file())
    return entries_to_data(entries, layout=f"{NAME} ({file.name})", source=source, seed=seed, notes=notes)


def read_entries(file: Path, tell_missing: bool = True) -> tuple[list[Entry], list[str]]:
    """The annotated photos of an export, and notes on what was left out. Raises DataError.

    The number of photos that nobody annotated is among the notes if `tell_missing`.
    """
    photos, notes = _read_photos(file)
    annotated = {name: choices for name, choices in photos.items() if choices}
    if not annotated:
        raise DataError(f"{file} has no annotated photos.")
    if (missing := len(photos) - len(annotated)) and tell_missing:
        notes.append(f"Left out: {counted(missing, 'photo')} that nobody annotated.")
    files = _find_photos([*annotated], file)
    entries = [Entry(path, *agreed(choices)) for path, choices in zip(files, annotated.values(), strict=True)]
    if doubts := sum(bool(entry.unknown) for entry in entries):
        notes.append(
            f"Annotators differ about {counted(doubts, 'photo')}: what only some of them chose is unknown there."
        )
    if not any(entry.present or entry.unknown for entry in entries):
        raise DataError(" ".join([f"{file} has no choices and no labels of regions.", *notes]))
    return entries, notes


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


def _find_photos(photos: Sequence[str], file: Path) -> list[Path]:
    roots = [root for name in (".", "images", "media", "upload", "data") if (root := file.parent / name).is_dir()]
    finder = Finder(roots, file)
    uploads = _by_uploaded_name(file.parent)
    found = [_find(photo, finder, uploads, file) for photo in photos]
    return finder.with_missing(found, [_names(photo)[-1] for photo in photos])


def _find(photo: str, finder: Finder, uploads: Mapping[str, list[Path]], file: Path) -> Path | None:
    """By its path or the name at its end, then by its name before the upload."""
    names = _names(photo)
    if found := next((found for name in names if (found := finder.find(name))), None):
        return found
    plain = [clean_name(unquote(name.rpartition("/")[2])) for name in names]
    files = next((files for name in plain if (files := uploads.get(name))), [])
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
    return [path, base, _UPLOAD.sub("", base)]


def _by_uploaded_name(folder: Path) -> dict[str, list[Path]]:
    """Photos by their names in Label Studio, which replaces spaces by underscores and drops other signs."""
    found: dict[str, list[Path]] = {}
    for file in photos_below(folder):
        found.setdefault(re.sub(r"[^-\w.]", "", clean_name(file.name).replace(" ", "_")), []).append(file)
    return found


def _read_photos(file: Path) -> tuple[_Choices, list[str]]:
    """The photos of `file` in its order, and notes on what was left out. Raises DataError."""
    if file.suffix.lower() != ".json":
        header, table = read_rows(file)
        return _of_records([{name: row.cells.get(name, "") for name in header} for row in table], file)
    records = parse_json(read_text(file, "JSON"), str(file))
    if isinstance(records, list) and all(isinstance(part, list) for part in records):
        records = [task for part in records for task in part]  # Label Studio's converter nests several files
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{file} must be a list of tasks, as Label Studio exports it.")
    if any("annotations" in record or "completions" in record for record in records):
        return _of_tasks(records, file)
    return _of_records(records, file)


def _of_tasks(tasks: Sequence[Mapping[str, Any]], file: Path) -> tuple[_Choices, list[str]]:
    photos: _Choices = {}
    ignored: set[str] = set()
    for number, task in enumerate(tasks, 1):
        name = _photo(task.get("data"), f"{file}, task {task.get('id', number)}")
        choices = photos.setdefault(name, [])
        try:
            for annotation in task.get("annotations") or task.get("completions") or ():
                if not annotation.get("was_cancelled"):  # skipped
                    choices.append(set(_of_result(annotation["result"], ignored)))
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{file}, task {task.get('id', number)}: the annotations are not as exported.") from error
    return photos, [f"Left out: results of the kind {some(sorted(ignored))}."] if ignored else []


def _of_result(result: Sequence[Mapping[str, Any]], ignored: set[str]) -> Iterator[str]:
    """Choices for the photo or a region, and labels of regions. Adds other kinds to `ignored`."""
    for one in result:
        kind, value = one["type"], one.get("value", {})
        if kind == "choices" or kind.endswith("labels"):
            yield from map(clean_name, value.get(kind, ()))
        elif kind not in ("rectangle", "polygon", "brush", "ellipse", "keypoint"):  # their labels are results, too
            ignored.add(kind)


def _of_records(records: Sequence[Mapping[str, Any]], file: Path) -> tuple[_Choices, list[str]]:
    """JSON-MIN and CSV: a record per annotation."""
    if not records:
        raise DataError(f"{file} lists no photos.")
    columns = [*dict.fromkeys(name for record in records for name in record)]
    image = _image_column(columns, records)
    results = _result_columns([name for name in columns if name not in (*_ABOUT, image)], records, file)
    photos: _Choices = {}
    for record in records:
        name = _photo({"image": record.get(image) if image else None}, str(file))
        choices = photos.setdefault(name, [])
        if str(record.get("annotation_id", "") or ""):  # empty for a task without annotation
            place = f"{file}, annotation {record['annotation_id']}"
            choices.append({label for column in results for label in _of_cell(record.get(column), place)})
    surplus = [name for name in columns if name not in (*_ABOUT, image, *results)]
    return photos, [f"Left out: the columns {some(surplus)}."] if surplus else []


def _image_column(columns: Sequence[str], records: Sequence[Mapping[str, Any]]) -> str | None:
    named = [name for name in columns if any(_is_image(record.get(name)) for record in records)]
    return "image" if "image" in columns else next(iter(named), None)


def _result_columns(candidates: Sequence[str], records: Sequence[Mapping[str, Any]], file: Path) -> list[str]:
    """The only candidate, or the columns between `id` and `annotator`, where JSON-MIN has its results.

    A CSV has its columns in alphabetical order; there a column counts that is named or written like a result.
    """
    between = {name for record in records for name in _between(record)}
    found = [name for name in candidates if name in between or len(candidates) == 1]
    if not found:
        found = [name for name in candidates if _is_named_like_a_result(name) or _holds_results(name, records)]
    if not found:
        columns = [*dict.fromkeys(name for record in records for name in record)]
        raise DataError(f"{file} has no column of choices: its columns are {some(columns)}. Export it as JSON.")
    return found


def _between(record: Mapping[str, Any]) -> list[str]:
    names = [*record]
    return names[names.index("id") : names.index("annotator")] if {"id", "annotator"} <= {*names} else []


def _is_named_like_a_result(name: str) -> bool:
    return any(word in name.lower() for word in _RESULTS)


def _holds_results(name: str, records: Sequence[Mapping[str, Any]]) -> bool:
    cells = [record.get(name) for record in records]
    return any(isinstance(cell, str) and _RESULT.match(cell) for cell in cells)


def _of_cell(cell: Any, place: str) -> Iterator[str]:
    """One choice is text, several are {"choices": […]}, regions are a list of objects with labels."""
    if isinstance(cell, str) and cell[:1] in ("{", "["):
        cell = parse_json(cell, place)
    for one in cell if isinstance(cell, list) else [cell]:
        if isinstance(one, dict):
            names = [value for key, value in one.items() if key == "choices" or key.endswith("labels")]
            for name in (name for value in names for name in (value if isinstance(value, list) else [value])):
                yield clean_name(str(name))
        elif one is not None and str(one).strip():
            yield clean_name(str(one))


def _photo(data: Any, place: str) -> str:
    """The task's photo: `image`, or the only value that is named like a photo."""
    values = data if isinstance(data, dict) else {}
    found = [values["image"]] if "image" in values else [value for value in values.values() if _is_image(value)]
    if len(found) != 1 or not isinstance(found[0], str) or not found[0]:
        raise DataError(f"{place} must name one photo, as `image`.")
    return found[0]


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and (is_photo(value.partition("?")[0]) or "/local-files/?d=" in value)
