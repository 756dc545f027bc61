"""The layouts that labelled photos come in: one module per layout, each with the same names."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from labelwise.errors import DataError
from training.data.labelled_data import LabelledData, some
from training.data.layouts import (
    coco,
    csv_list,
    cvat_images,
    image_folder,
    jsonl_list,
    label_folders,
    label_studio,
    nus_wide,
    roboflow_csv,
    shards,
    voc,
    voc_beside,
    yolo,
)
from training.data.layouts.contents import describe_contents, unlisted
from training.data.layouts.splits import subfolders


class Reader(Protocol):
    """A module that reads one layout: NAME for data without a more exact one, LAYOUT for who has to choose one."""

    NAME: str
    LAYOUT: str

    def recognises(self, source: Path) -> bool: ...

    def read(self, source: Path, seed: int) -> LabelledData: ...


_OWN = (csv_list, jsonl_list, shards)
_TABLES = (image_folder, roboflow_csv, label_studio)  # of other tools, which csv_list and coco would take for theirs
# Asked in this order: folders of labels come last, as any folder of folders looks like them.
READERS: tuple[Reader, ...] = (
    *(*_OWN, *_TABLES),
    *(coco, voc, voc_beside, cvat_images, yolo, nus_wide, label_folders),
)


def read_data(source: Path | str, seed: int = 0) -> LabelledData:
    """Read labelled photos in any layout of READERS, recognised by what lies at `source`, or shards at a URL.

    Only the lists are read here: a photo that is missing or broken is found by `check_photos`. Where the layout has no
    splits, a fifth of the photos, drawn with `seed`, becomes val. Raises DataError.
    """
    if isinstance(source, str) and shards.is_url(source):
        return replace(shards.read_url(source), layout=shards.NAME)
    path = Path(source)
    # In a folder a list of ours is what the user wrote for us; a single file is first asked whose it is.
    for reader in READERS if path.is_dir() else (*_TABLES, *READERS):
        if reader.recognises(path):
            data = reader.read(path, seed)
            notes = (*data.notes, *unlisted(path, data.listed))
            return replace(data, layout=data.layout or reader.NAME, notes=notes)
    layouts = "; ".join(reader.LAYOUT for reader in READERS)
    raise DataError(f"There is no labelled data at {path}{_found(path)}. Give one of these: {layouts}.")


def _found(path: Path) -> str:
    """What lies at `path`, and which folder in it would be read."""
    folders = subfolders(path) if path.is_dir() else []
    inside = [folder for folder in folders if _can_be_read(folder)]
    hint = f"; labelled data is in {some([folder.name for folder in inside])}" if inside else ""
    return f": {describe_contents(path)}{hint}"


def _can_be_read(folder: Path) -> bool:
    """Not only recognised: YOLO's images/train and images/val look like splits of labels."""
    try:
        reader = next((reader for reader in READERS if reader.recognises(folder)), None)
        return reader is not None and bool(reader.read(folder, 0).labels)
    except DataError:
        return False
