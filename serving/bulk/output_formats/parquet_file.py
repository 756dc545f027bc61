"""Parquet: `tags` is a list, `scores` a struct with a float32 per label; both are null if the photo is broken."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelwise.label_names import case_fault
from labelwise.spec import TaggerSpec
from serving.bulk.rows import Page, StoredRow, weights_of
from serving.bulk.tag_errors import UsageError

_READ_ROWS = 4096


def write(stream: IO[bytes], pages: Iterable[Page], spec: TaggerSpec) -> None:
    with pq.ParquetWriter(stream, schema_of(spec)) as writer:
        for page in pages:
            writer.write_table(to_table(page, spec))


def check_labels(spec: TaggerSpec, file: Path) -> None:
    """Raises UsageError if labels differ only by case: a query for one would get the scores of the other."""
    if fault := case_fault(spec.labels):
        raise UsageError(f"{file} cannot be Parquet: {fault}. Write .csv or .jsonl, or rename one of the labels.")


def schema_of(spec: TaggerSpec) -> pa.Schema:
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


def to_table(page: Page, spec: TaggerSpec) -> pa.Table:
    missing = np.isnan(page.scores)
    columns = [pa.array(page.scores[:, at], pa.float32(), mask=missing[:, at]) for at in range(len(spec.labels))]
    schema, count = schema_of(spec), len(page.rows)
    broken = pa.array([tags is None for tags in page.tags])
    return pa.table(
        {name: [getattr(row, name) for row in page.rows] for name in ("path", "error", "detail", "size", "mtime_ns")}
        | {
            "tags": page.tags,
            "scores": pa.StructArray.from_arrays(columns, fields=list(schema.field("scores").type), mask=broken),
            "model": [spec.name] * count,
            "version": [spec.version] * count,
            "weights": [weights_of(spec)] * count,
        },
        schema=schema,
    )


def read(file: Path) -> Iterator[StoredRow]:
    with pq.ParquetFile(file) as parquet:
        labels = tuple(field.name for field in parquet.schema_arrow.field("scores").type)
        for batch in parquet.iter_batches(_READ_ROWS):
            for entry in batch.to_pylist():
                if told := entry["scores"]:
                    entry["scores"] = {label: score for label, score in told.items() if score is not None}
                yield StoredRow.of(entry, labels)
