"""WebDataset shards with their dataset.json, as `labelwise shards` writes them: in a folder, or behind a URL."""

from pathlib import Path

from training.data.labelled_data import LabelledData
from training.data.shard_reader import INDEX_FILE, is_url, open_sharded

NAME = "shards"
LAYOUT = "shards from `labelwise shards` (a folder with dataset.json, or its URL)"

__all__ = ["LAYOUT", "NAME", "is_url", "read", "read_url", "recognises"]


def recognises(source: Path) -> bool:
    return (source.name == INDEX_FILE and source.is_file()) or (source / INDEX_FILE).is_file()


def read(source: Path, seed: int) -> LabelledData:
    """The splits are those the shards were written with."""
    return open_sharded(str(source))


def read_url(source: str) -> LabelledData:
    return open_sharded(source)
