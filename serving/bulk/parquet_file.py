"""Writes and reads the Parquet of `output_formats`, which loads this module, and so PyArrow, only when it is used.

Columns are made from buffers. `pa.array` would first load pandas where it is installed, to recognise pandas' types.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelwise.spec import TaggerSpec
from serving.bulk.rows import Page, StoredRow, weights_of

_READ_ROWS = 4096  # at once


def write_pages(stream: IO[bytes], pages: Iterable[Page], spec: TaggerSpec) -> None:
    with pq.ParquetWriter(stream, _schema_of(spec)) as writer:
        for page in pages:
            writer.write_table(_to_table(page, spec))


def read_rows(file: Path) -> Iterator[StoredRow]:
    with pq.ParquetFile(file) as parquet:
        labels = tuple(field.name for field in parquet.schema_arrow.field("scores").type)
        for batch in parquet.iter_batches(_READ_ROWS):
            for entry in batch.to_pylist():
                if told := entry["scores"]:
                    entry["scores"] = {label: score for label, score in told.items() if score is not None}
                yield StoredRow.of(entry, labels)


def _schema_of(spec: TaggerSpec) -> pa.Schema:
    return pa.schema(
        [
            ("path", pa.string()),
            ("tags", pa.list_(pa.string())),
            ("scores", pa.struct([(label, pa.float32()) for label in spec.labels])),
            ("model", pa.string()),
            ("version", pa.int32()),
            ("weights", pa.string()),
            ("error", pa.string()),
            ("detail", pa.string()),
            ("size", pa.int64()),
            ("mtime_ns", pa.int64()),
        ]
    )


def _to_table(page: Page, spec: TaggerSpec) -> pa.Table:
    rows, schema, count = page.rows, _schema_of(spec), len(page.rows)
    is_whole = np.array([tags is not None for tags in page.tags])
    columns = {
        "path": _texts([row.path for row in rows]),
        "tags": _lists(page.tags, is_whole),
        "scores": _structs(schema.field("scores").type, page.scores, is_whole),
        "model": _texts([spec.name] * count),
        "version": _column(pa.int32(), np.full(count, spec.version, np.int32)),
        "weights": _texts([weights_of(spec)] * count),
        "error": _texts([row.error for row in rows]),
        "detail": _texts([row.detail for row in rows]),
        "size": _integers([row.size for row in rows]),
        "mtime_ns": _integers([row.mtime_ns for row in rows]),
    }
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _texts(values: Iterable[str | None]) -> pa.Array:
    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


def _integers(values: Sequence[int | None]) -> pa.Array:
    numbers = np.array([value or 0 for value in values], np.int64)
    return _column(pa.int64(), numbers, np.array([value is not None for value in values]))


def _lists(values: Sequence[Sequence[str] | None], is_valid: NDArray[np.bool_]) -> pa.Array:
    ends = np.cumsum([0, *(len(value or ()) for value in values)], dtype=np.int32)
    texts = _texts(text for value in values for text in value or ())
    return _column(pa.list_(pa.string()), ends, is_valid, [texts])


def _structs(kind: pa.StructType, scores: NDArray[np.float64], is_valid: NDArray[np.bool_]) -> pa.Array:
    """scores [n, l] -> structs [n] with a float32 for each label, null where a score is NaN."""
    values, is_told = np.ascontiguousarray(scores.T, np.float32), ~np.isnan(scores.T)
    fields = [_column(pa.float32(), *column) for column in zip(values, is_told, strict=True)]
    return pa.StructArray.from_buffers(kind, len(scores), [_bits(is_valid)], children=fields)


def _column(
    kind: pa.DataType,
    values: NDArray[Any],
    is_valid: NDArray[np.bool_] | None = None,
    children: Sequence[pa.Array] | None = None,
) -> pa.Array:
    """`values` of Arrow's layout for `kind`, which they stay: of a list they are where each one begins and ends."""
    count = len(values) if is_valid is None else len(is_valid)
    nulls = None if is_valid is None else _bits(is_valid)
    return pa.Array.from_buffers(kind, count, [nulls, pa.py_buffer(values)], children=children)


def _bits(is_valid: NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(is_valid, bitorder="little"))
