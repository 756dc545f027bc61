"""One export of Label Studio: the labels that each annotator chose for each photo."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelwise.errors import DataError
from labelwise.label_names import clean_name
from training.data.labelled_data import some
from training.data.layouts.csv_list import read_rows
from training.data.layouts.layout_files import parse_json, read_text
from training.data.layouts.splits import is_photo

# The keys of JSON-MIN and CSV that are not results.
_ABOUT = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"}
_RESULTS = ("choice", "label", "class", "tag")  # in the names of results
_RESULT = re.compile(r'\{"choices":|\[\{.*"[a-z]*labels":', re.DOTALL)  # in a cell of a CSV


@dataclass
class AnnotatedPhoto:
    """A photo's name in the export, and the labels that each annotator chose. Without choices nobody annotated it."""

    name: str
    choices: list[set[str]] = field(default_factory=list)


def read_photos(file: Path) -> tuple[list[AnnotatedPhoto], list[str]]:
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


def _of_tasks(tasks: Sequence[Mapping[str, Any]], file: Path) -> tuple[list[AnnotatedPhoto], list[str]]:
    photos: dict[str, AnnotatedPhoto] = {}
    ignored: set[str] = set()
    for number, task in enumerate(tasks, 1):
        name = _photo(task.get("data"), f"{file}, task {task.get('id', number)}")
        photo = photos.setdefault(name, AnnotatedPhoto(name))
        try:
            for annotation in task.get("annotations") or task.get("completions") or ():
                if not annotation.get("was_cancelled"):  # skipped
                    photo.choices.append(set(_of_result(annotation["result"], ignored)))
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{file}, task {task.get('id', number)}: the annotations are not as exported.") from error
    return [*photos.values()], [f"Left out: results of the kind {some(sorted(ignored))}."] if ignored else []


def _of_result(result: Sequence[Mapping[str, Any]], ignored: set[str]) -> Iterator[str]:
    """Choices for the photo or a region, and labels of regions. Adds other kinds to `ignored`."""
    for one in result:
        kind, value = one["type"], one.get("value", {})
        if kind == "choices" or kind.endswith("labels"):
            yield from map(clean_name, value.get(kind, ()))
        elif kind not in ("rectangle", "polygon", "brush", "ellipse", "keypoint"):  # their labels are results, too
            ignored.add(kind)


def _of_records(records: Sequence[Mapping[str, Any]], file: Path) -> tuple[list[AnnotatedPhoto], list[str]]:
    """JSON-MIN and CSV: a record per annotation."""
    if not records:
        raise DataError(f"{file} lists no photos.")
    columns = [*dict.fromkeys(name for record in records for name in record)]
    image = _image_column(columns, records)
    results = _result_columns([name for name in columns if name not in (*_ABOUT, image)], records, file)
    photos: dict[str, AnnotatedPhoto] = {}
    for record in records:
        name = _photo({"image": record.get(image) if image else None}, str(file))
        photo = photos.setdefault(name, AnnotatedPhoto(name))
        if str(record.get("annotation_id", "") or ""):  # empty for a task without annotation
            place = f"{file}, annotation {record['annotation_id']}"
            photo.choices.append({label for column in results for label in _of_cell(record.get(column), place)})
    surplus = [name for name in columns if name not in (*_ABOUT, image, *results)]
    return [*photos.values()], [f"Left out: the columns {some(surplus)}."] if surplus else []


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
