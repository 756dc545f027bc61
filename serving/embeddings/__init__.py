"""Label-level embeddings of many photos: the file that `labelwise tag --embeddings` writes, and the search in it."""

from pathlib import Path

_SUFFIX = ".embeddings.arrow"


def embeddings_path(table: Path) -> Path:
    """The file of embeddings that belongs to the table, such as tags.parquet.embeddings.arrow."""
    return table.with_name(table.name + _SUFFIX)
