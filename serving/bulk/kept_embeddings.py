"""The embeddings that a run keeps beside its table: those of each photo's tags.

They go through the journal as the rows do. The file is written when a run ends or is stopped, in one piece like the
table; after a kill, the journal has them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labelwise.files import replacing
from labelwise.spec import TaggerSpec
from labelwise.tagging import judge
from serving.bulk.ledger import Ledger
from serving.bulk.rows import Row, tag_places, weights_of
from serving.bulk.tag_errors import RUN_AGAIN, OutputError, UsageError
from serving.embeddings import embeddings_path

if TYPE_CHECKING:
    from serving.embeddings.embeddings_file import (  # a run without embeddings does not load PyArrow
        Embedder,
        Embeddings,
        LabelRows,
    )

_ROWS, _VALUES = 16_384, 4_000_000  # embeddings, and scores of their photos, in memory at once


class KeptEmbeddings:
    """The file of embeddings of a table. A table that has one keeps it: later runs add to it."""

    def __init__(self, table: Path) -> None:
        self.path = embeddings_path(table)

    def check(self, spec: TaggerSpec) -> None:
        """Raises UsageError if the model has no embeddings."""
        if "embeddings" not in spec.output_names:
            raise UsageError(
                f"{spec.name} has no label-level embeddings: leave --embeddings out, or name a model that has them."
            )

    def read(self, spec: TaggerSpec) -> Iterator[tuple[str, int, bytes]]:
        """Path, place of the label and bytes of each embedding; none if there is no file or it is of another model."""
        if not self.path.exists():
            return
        with self._opened() as found:
            if found.embedder == _embedder(spec):
                yield from found.rows()

    def remove_of_others(self, spec: TaggerSpec) -> None:
        """Removes the file if another model made it: beside a table of this one, a search would take it for its own."""
        if self.path.exists():
            with self._opened() as found:
                is_ours = found.embedder == _embedder(spec)
            if not is_ours:
                self.path.unlink()

    @contextmanager
    def _opened(self) -> "Iterator[Embeddings]":
        from serving.embeddings.embeddings_file import Embeddings, NotEmbeddings

        try:
            with Embeddings(self.path) as found:
                yield found
        except (NotEmbeddings, OSError) as error:
            raise OutputError(
                f"{self.path} is not a file of embeddings that `labelwise tag` wrote: remove it and run this again."
            ) from error

    def publish(self, ledger: Ledger, spec: TaggerSpec) -> None:
        """Write those of the journal, if they have changed. Raises OutputError, and then leaves the file as it was."""
        if not ledger.embeddings_changed:
            return
        from serving.embeddings.embeddings_file import write_embeddings

        aside = self.path.with_name(f".{self.path.name}.new")  # always this name, to overwrite what a killed run left
        try:
            with replacing(self.path, aside) as stream:
                write_embeddings(stream, _embedder(spec), _label_rows(ledger, spec))
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"{self.path} cannot be written: {reason}. It is unchanged. {RUN_AGAIN}") from error
        ledger.embeddings_changed = False


def is_embedded(row: Row, ledger: Ledger, spec: TaggerSpec) -> bool:
    """Whether the embeddings of all tags of the photo are kept."""
    return row.scores is None or {*tag_places(row.scores, spec)} <= ledger.embedded(row.path)


def _embedder(spec: TaggerSpec) -> "Embedder":
    from serving.embeddings.embeddings_file import Embedder

    return Embedder(spec.name, spec.version, weights_of(spec), spec.labels, spec.embedding_dim or 0)


def _label_rows(ledger: Ledger, spec: TaggerSpec) -> "Iterator[LabelRows]":
    from serving.embeddings.embeddings_file import LabelRows

    thresholds, size = np.array(spec.thresholds), max(1, min(_ROWS, _VALUES // len(spec.labels)))
    for place in range(len(spec.labels)):
        for found in ledger.embeddings(place, size):
            paths, scores, vectors = zip(*found, strict=True)
            values, is_tag = judge(np.frombuffer(b"".join(scores), "<f4").reshape(len(paths), -1), thresholds)
            tags = [np.flatnonzero(is_its).tolist() for is_its in is_tag]
            kept = np.frombuffer(b"".join(vectors), "<f2").reshape(len(paths), -1)
            yield LabelRows(place, paths, values[:, place], tags, kept)
