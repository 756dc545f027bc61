"""WebDataset shards with their dataset.json, in the folder that `labelwise shards` wrote."""

from pathlib import Path

from training.data.labelled_data import LabelledData
from training.data.shard_reader import INDEX_FILE, open_sharded

NAME = "shards"
LAYOUT = "shards from `labelwise shards` (a folder with dataset.json, or its URL)"


def recognises(source: Path) -> bool:
    return (source.name == INDEX_FILE and source.is_file()) or (source / INDEX_FILE).is_file()


def read(source: Path, seed: int) -> LabelledData:
    """The splits are those that the shards were written with."""
    return open_sharded(str(source))
