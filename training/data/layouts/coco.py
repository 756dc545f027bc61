"""COCO instances, in the folders of the official sets, Roboflow, CVAT and FiftyOne.

A label is present in a photo that has an instance of it, crowds included.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from labelwise.errors import DataError
from training.data.labelled_data import LabelledData, some
from training.data.layouts.coco_file import Instances, label_names, read_instances
from training.data.layouts.entries import Entry, entries_to_data, name_files
from training.data.layouts.layout_files import locate, read_head
from training.data.layouts.splits import find_parts, split_of, subfolders

NAME = "COCO instances"
LAYOUT = "COCO instances (a JSON; a folder with annotations/instances_*.json; train, valid and test with a JSON each)"

_KEYS = re.compile(r'"(?:images|annotations)"\s*:\s*\[')
# Files of the official sets that hold no instances, or the same ones again.
_NOT_INSTANCES = re.compile(r"captions|panoptic|stuff|person_keypoints|image_info")


@dataclass(frozen=True)
class _Source:
    """A file of instances, and its split; None if it is the only one."""

    file: Path
    split: str | None


def recognises(source: Path) -> bool:
    return (source.suffix.lower() == ".json" and source.is_file()) or bool(_sources(source))


def read(source: Path, seed: int) -> LabelledData:
    """Reads every file of a folder as the split in its or its folder's name; a single file is split by `seed`."""
    sources = _sources(source) if source.is_dir() else [_Source(source, None)]
    parts = [read_instances(one.file) for one in sources]
    labels, groups = label_names(parts)
    entries = [entry for one, part in zip(sources, parts, strict=True) for entry in _entries(one, part)]
    notes = [f"Left out: the categories {some(groups)}, which only group others."] if groups else []
    folder = source if source.is_dir() else source.parent
    layout = name_files(NAME, [one.file for one in sources], folder)
    return entries_to_data(entries, labels, layout=layout, source=source, seed=seed, notes=notes)


def _entries(source: _Source, part: Instances) -> list[Entry]:
    files = locate([name for name, _ in part.photos], _roots(source), source.file)
    return [
        Entry(file, {part.categories[category].name for category in found}, split=source.split)
        for file, (_, found) in zip(files, part.photos, strict=True)
    ]


def _sources(source: Path) -> list[_Source]:
    """The files of `source`, or of its folders named like splits."""
    found: list[_Source] = []
    for part in find_parts(source, lambda folder: bool(_files(folder))):
        files = _files(part.folder)
        if len(files) == 1:
            found.append(_Source(files[0], part.split))
        elif part.split:
            raise DataError(
                f"{part.folder} holds several COCO files ({some([file.name for file in files])}): keep one."
            )
        else:
            found += [_Source(file, _split(file)) for file in files]
    return found


def _files(folder: Path) -> list[Path]:
    """The COCO files in `folder` and its annotations; if some are called instances, only these."""
    if not folder.is_dir():
        return []
    files = sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json")])
    named = [file for file in files if file.name.startswith("instances")]
    return named or [file for file in files if not _NOT_INSTANCES.match(file.name) and _is_coco(file)]


def _is_coco(file: Path) -> bool:
    """Reads only the beginning: the file may be of any size."""
    head = read_head(file)
    return head.lstrip("\ufeff \t\r\n").startswith("{") and bool(_KEYS.search(head))


def _roots(source: _Source) -> list[Path]:
    """Where a file's photos may be.

    COCO: in train2017 beside annotations, for instances_train2017.json. Roboflow: beside the file. FiftyOne: in data.
    Others: in a folder named like the split, such as Train or val_images.
    """
    subset, beside = source.file.stem.removeprefix("instances_"), source.file.parent
    bases = (beside.parent, beside) if beside.name == "annotations" else (beside,)
    roots = []
    for base in bases:
        named = [place for inside in (base, base / "images") for place in _named_like(source.split, inside)]
        roots += [base / subset, base / "images" / subset, *named, base / "images", base, base / "data"]
    return [root for root in roots if root.is_dir()]


def _named_like(split: str | None, folder: Path) -> list[Path]:
    inside = subfolders(folder) if split and folder.is_dir() else []
    return [place for place in inside if split_of(place.name) == split]


def _split(file: Path) -> str:
    """The split in the file's name: train for instances_train2017."""
    split = split_of(re.sub(r"instances|annotations|coco|labels", "", file.stem.lower()))
    if split is None:
        raise DataError(
            f"{file} is of no known split: call it instances_train*.json, instances_val*.json or instances_test*.json."
        )
    return split
