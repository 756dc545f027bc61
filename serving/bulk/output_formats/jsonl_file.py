"""JSON lines: an object per photo; `scores` by label, null if the photo is broken."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from labelwise.spec import TaggerSpec
from serving.bulk.rows import Page, StoredRow, weights_of


def write(stream: IO[bytes], pages: Iterable[Page], spec: TaggerSpec) -> None:
    for page in pages:
        lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in _entries(page, spec))
        stream.write("".join(lines).encode())


def _entries(page: Page, spec: TaggerSpec) -> Iterator[dict[str, object]]:
    for row, tags, values in zip(page.rows, page.tags, page.scores.tolist(), strict=True):
        told = {label: score for label, score in zip(spec.labels, values, strict=True) if score == score}
        yield {
            "path": row.path,
            "tags": tags,
            "scores": None if tags is None else told,
            "model": spec.name,
            "version": spec.version,
            "weights": weights_of(spec),
            "error": row.error,
            "detail": row.detail,
            "size": row.size,
            "mtime_ns": row.mtime_ns,
        }


def read(file: Path) -> Iterator[StoredRow]:
    with file.open(encoding="utf-8") as stream:
        for line in stream:
            yield StoredRow.of(json.loads(line), None)
