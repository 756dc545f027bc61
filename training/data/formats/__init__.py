"""The layouts that labelled photos come in: one module a layout, each with the same three names."""

from pathlib import Path
from typing import Protocol

from labelwise.errors import DataError
from training.data.formats import coco, csv_list, jsonl_list, label_folders, nus_wide, shard_folder, voc
from training.data.labelled import LabelledData


class Reader(Protocol):
    """A module that reads one layout; `LAYOUT` is how an error describes it."""

    LAYOUT: str

    def recognises(self, source: Path) -> bool: ...

    def read(self, source: Path, seed: int) -> LabelledData: ...


# Asked in this order: folders of labels come last, as any folder of folders looks like them.
READERS: tuple[Reader, ...] = (csv_list, jsonl_list, shard_folder, coco, voc, nus_wide, label_folders)


def read_data(source: Path | str, seed: int = 0) -> LabelledData:
    """Read labelled photos in any layout of READERS, recognised by what lies at `source`, or shards at a URL.

    Only the lists are read here: a photo that is missing or broken is found by `check_photos`. Where the layout has no
    splits, a fifth of the photos, drawn with `seed`, becomes val. Raises DataError.
    """
    if isinstance(source, str) and shard_folder.is_url(source):
        return shard_folder.read_url(source)
    path = Path(source)
    for reader in READERS:
        if reader.recognises(path):
            return reader.read(path, seed)
    layouts = "; ".join(reader.LAYOUT for reader in READERS)
    raise DataError(f"There is no labelled data at {path}. Give one of these: {layouts}.")
