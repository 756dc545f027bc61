"""The layouts of labelled photos: a module per layout, which has what the Protocol `Reader` names.

Rows of cells go through `table.read_table`, the annotations of other tools through `entries.entries_to_data`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from labelwise.errors import DataError
from labelwise.label_names import some
from labelwise.spec import TrainedSpec
from training.data.labelled_data import LabelledData, require_splits
from training.data.layouts import (
    coco,
    csv_list,
    cvat_images,
    feedback_store,
    image_folder,
    jsonl_list,
    label_folders,
    label_studio,
    nus_wide,
    roboflow_csv,
    shards,
    voc,
    yolo,
)
from training.data.layouts.background import with_background
from training.data.layouts.folders import describe_contents, subfolders, unlisted
from training.data.shard_reader import ShardedData, is_url, open_sharded


class Reader(Protocol):
    """A module that reads one layout. NAME is what the data is called, LAYOUT describes it in the list of layouts."""

    NAME: str
    LAYOUT: str

    def recognises(self, source: Path) -> bool: ...

    def read(self, source: Path, seed: int) -> LabelledData: ...


_TABLES = (image_folder, roboflow_csv, label_studio)  # of other tools; csv_list and coco would accept them, too
# Asked in this order: our own lists, then other tools' data. Any folder of folders looks like folders of labels.
READERS: tuple[Reader, ...] = (
    *(csv_list, jsonl_list, shards, feedback_store),
    *_TABLES,
    *(coco, voc, cvat_images, yolo, nus_wide, label_folders),
)


def read_data(source: Path | str, seed: int = 0, background: Path | None = None) -> LabelledData:
    """Read labelled photos in any layout of READERS, recognised by the files at `source`, or shards at a URL.

    Reads only the lists; `check_photos` finds missing and broken photos. If the layout has no splits, a fifth of the
    photos, drawn with `seed`, becomes val. The photos below the folder `background` join as photos without a label.
    Raises DataError, also if there is nothing to train on or nothing for val.
    """
    data = _read(source, seed, background)
    if not isinstance(data, ShardedData):  # they were checked when they were written
        require_splits(data, source)
    return data


def read_as_trained(source: Path | str, spec: TrainedSpec, background: Path | None = None) -> LabelledData:
    """Like `read_data`, split as for the training of `spec`, so that no photo of val was trained on.

    To measure with: one of the splits may be empty. Raises DataError.
    """
    return _read(source, spec.training.get("seed", 0), background)


def require_data(source: Path | str) -> None:
    """Raise DataError if no layout recognises the files at `source`. URLs are not looked at."""
    if not is_url(str(source)):
        _reader_of(Path(source))


def _reader_of(path: Path) -> Reader:
    # In a folder our own lists come first, as the user wrote them for us; a single file may be another tool's table.
    for reader in READERS if path.is_dir() else (*_TABLES, *READERS):
        if reader.recognises(path):
            return reader
    layouts = "; ".join(reader.LAYOUT for reader in READERS)
    raise DataError(f"There is no labelled data at {path}{_found(path)}. Give one of these: {layouts}.")


def _read(source: Path | str, seed: int, background: Path | None) -> LabelledData:
    if isinstance(source, str) and is_url(source):
        data: LabelledData = replace(open_sharded(source), layout=shards.NAME)
    else:
        reader = _reader_of(Path(source))
        data = reader.read(Path(source), seed)
        data = replace(data, layout=data.layout or reader.NAME)
    if background is not None:
        data = with_background(data, background, seed)
    return replace(data, notes=(*data.notes, *unlisted(Path(source), data.listed)))


def _found(path: Path) -> str:
    """What is at `path`, and which folders in it could be read."""
    folders = subfolders(path) if path.is_dir() else []
    inside = [folder for folder in folders if _can_be_read(folder)]
    hint = f"; labelled data is in {some([folder.name for folder in inside])}" if inside else ""
    return f": {describe_contents(path)}{hint}"


def _can_be_read(folder: Path) -> bool:
    """Recognising is not enough: YOLO's images/train and images/val look like splits of labels."""
    try:
        reader = next((reader for reader in READERS if reader.recognises(folder)), None)
        return reader is not None and bool(reader.read(folder, 0).labels)
    except DataError:
        return False
