"""The exact nearest embeddings of a label. benchmarks/results/search.md says why there is no index to build.

NumKong's kernels multiply float16 as they are mapped, a million of 128 numbers in 20 ms of one core.
"""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numkong
import numpy as np
from numpy.typing import NDArray

from serving.embeddings.embeddings_file import Batch, Embeddings


class Match(NamedTuple):
    """A photo, the cosine similarity of its embedding, the score of the label, and its tags."""

    path: str
    similarity: float
    score: float
    tags: list[str]


class _Best(NamedTuple):
    similarities: NDArray[np.float64]
    batches: NDArray[np.intp]
    rows: NDArray[np.intp]


def find_nearest(
    embeddings: Embeddings,
    place: int,
    vector: NDArray[np.float32],
    count: int,
    tags: Collection[int] = (),
    not_tags: Collection[int] = (),
    threads: int = 1,
) -> list[Match]:
    """The `count` photos whose embedding of the label at `place` is nearest to `vector` [p], nearest first.

    Only photos with all of `tags` and none of `not_tags`, places of labels.
    """
    batches = embeddings.of_label(place)
    query = vector.astype(np.float16)[None]

    def similarities(batch: Batch) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.asarray(numkong.cdist(query, batch.vectors, "dot"))[0]
        return found

    def wanted(batch: Batch, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        for place in tags:
            rows = rows[batch.has_tag(place)[rows]]
        for place in not_tags:
            rows = rows[~batch.has_tag(place)[rows]]
        return rows

    best = _Best(np.empty(0), np.empty(0, np.intp), np.empty(0, np.intp))
    with ThreadPoolExecutor(threads) as pool:
        for number, found in enumerate(pool.map(similarities, batches)):
            floor = best.similarities.min() if len(best.similarities) >= count else -np.inf
            rows = np.flatnonzero(found > floor)
            if len(rows) and len(rows := wanted(batches[number], rows)):  # few after the first batches
                best = _merged(best, number, rows, found[rows], count)
    order = np.argsort(-best.similarities, kind="stable")
    return [
        Match(row[0], float(best.similarities[at]), *row[1:])
        for at in order
        for row in [batches[best.batches[at]].row(int(best.rows[at]))]
    ]


def _merged(best: _Best, number: int, rows: NDArray[np.intp], similarities: NDArray[np.float64], count: int) -> _Best:
    """The best `count` of `best` and of these `rows` of batch `number`."""
    every = _Best(
        np.concatenate([best.similarities, similarities]),
        np.concatenate([best.batches, np.full(len(rows), number)]),
        np.concatenate([best.rows, rows]),
    )
    if len(every.similarities) <= count:
        return every
    kept = np.argpartition(-every.similarities, count - 1)[:count]
    return _Best(*(values[kept] for values in every))
