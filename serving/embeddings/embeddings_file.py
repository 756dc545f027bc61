"""The file of embeddings beside a table: an Arrow IPC file that a search maps into memory and never loads.

A row is a photo and one of its labels. Rows are sorted by the model's order of labels, then by path, and a record batch
has rows of one label only: a search reads the batches of its label. pandas.read_feather and Polars read the file.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_ABOUT = b"labelwise"  # the key of the schema's metadata


class NotEmbeddings(ValueError):
    """The file is not one that `write_embeddings` wrote."""


@dataclass(frozen=True)
class Embedder:
    """The model that made the embeddings; `weights` are the first digits of the SHA-256 of its graph."""

    model: str
    version: int
    weights: str
    labels: tuple[str, ...]
    dimension: int


@dataclass(frozen=True)
class LabelRows:
    """Rows of the label at `place`, sorted by path: scores [n], the places of each photo's tags, vectors [n, p]."""

    place: int
    paths: Sequence[str]
    scores: NDArray[np.float64]
    tags: Sequence[Sequence[int]]
    vectors: NDArray[np.float16]


def write_embeddings(stream: IO[bytes], embedder: Embedder, every: Iterable[LabelRows]) -> None:
    """Write a whole file, one record batch for each of `every`. Holds one in memory at a time."""
    names = pa.array(embedder.labels, pa.string())
    schema = _schema_of(embedder)
    with pa.ipc.new_file(stream, schema) as writer:
        for rows in every:
            writer.write_batch(_to_batch(rows, schema, names))


def _schema_of(embedder: Embedder) -> pa.Schema:
    name = pa.dictionary(pa.int16(), pa.string())
    return pa.schema(
        [
            ("path", pa.string()),
            ("label", name),
            ("score", pa.float32()),
            ("tags", pa.list_(name)),
            ("embedding", pa.list_(pa.float16(), embedder.dimension)),
        ],
        metadata={_ABOUT: json.dumps(asdict(embedder))},
    )


def _to_batch(rows: LabelRows, schema: pa.Schema, names: pa.Array) -> pa.RecordBatch:
    count = len(rows.paths)
    ends = np.cumsum([0, *map(len, rows.tags)], dtype=np.int32)
    tags = np.fromiter((place for places in rows.tags for place in places), np.int16)
    columns = [
        pa.array(rows.paths, pa.string()),
        pa.DictionaryArray.from_arrays(np.full(count, rows.place, np.int16), names),
        pa.array(rows.scores.astype(np.float32)),
        pa.ListArray.from_arrays(ends, pa.DictionaryArray.from_arrays(tags, names)),
        pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.ravel()), rows.vectors.shape[1]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


class Embeddings:
    """The file, mapped into memory. A context manager."""

    def __init__(self, file: Path) -> None:
        """Raises FileNotFoundError, another OSError, or NotEmbeddings."""
        self._mapped = pa.memory_map(str(file))
        try:
            reader = pa.ipc.open_file(self._mapped)
            self.embedder = _embedder_of(reader.schema)
            self._batches: dict[int, list[Batch]] = defaultdict(list)
            for number in range(reader.num_record_batches):
                batch = Batch(reader.get_batch(number))
                self._batches[batch.place].append(batch)
        except (pa.ArrowInvalid, ValueError, KeyError, TypeError, IndexError) as error:
            self._mapped.close()
            raise NotEmbeddings(f"{file}: {error}") from error

    def __enter__(self) -> "Embeddings":
        return self

    def __exit__(self, *_: object) -> None:
        self._batches.clear()
        self._mapped.close()

    def of_label(self, place: int) -> "list[Batch]":
        """The batches of the label at `place` of the model's labels."""
        return self._batches.get(place, [])

    def rows(self) -> Iterator[tuple[str, int, bytes]]:
        """Path, place of the label, and the float16 bytes of each embedding."""
        for place, batches in self._batches.items():
            for batch in batches:
                for path, vector in zip(batch.paths, batch.vectors, strict=True):
                    yield path.as_py(), place, vector.tobytes()


class Batch:
    """Rows of one label, as arrays on the mapped file."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.paths: pa.Array = batch.column("path")
        self.place = int(batch.column("label").indices[0].as_py())
        vectors = batch.column("embedding")
        values: NDArray[np.float16] = vectors.flatten().to_numpy(zero_copy_only=True)
        self.vectors = values.reshape(-1, vectors.type.list_size)  # [n, p]
        self._tags: pa.ListArray = batch.column("tags")
        self._scores: pa.Array = batch.column("score")

    def has_tag(self, place: int) -> NDArray[np.bool_]:
        """Which rows are of photos with the tag at `place`: bool [n]."""
        places = self._tags.values.indices.to_numpy()
        until = np.zeros(len(places) + 1, np.int32)  # how often it is among the first n
        np.cumsum(places == place, out=until[1:])
        at_ends: NDArray[np.int32] = until[self._tags.offsets.to_numpy()]
        return at_ends[1:] > at_ends[:-1]

    def row(self, at: int) -> tuple[str, float, list[str]]:
        """The path, the label's score and the tags of the row at `at`."""
        return self.paths[at].as_py(), self._scores[at].as_py(), self._tags[at].as_py()


def _embedder_of(schema: pa.Schema) -> Embedder:
    about: dict[str, Any] = json.loads((schema.metadata or {})[_ABOUT])
    return Embedder(**about | {"labels": tuple(about["labels"])})
