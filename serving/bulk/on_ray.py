"""`labelwise tag --ray`: the same tagging as a stage of Ray Data, on as many machines as its cluster has.

Photos are found here, and so are the ledger and the output: they are small. Ray's actors read the photos from storage
that all machines share, decode and tag them; photos out of archives travel with their bytes. Ray starts an actor anew
that was lost, and gives its photos to another one. It works in waves, so that no more than a wave is in memory here;
each begins with starting the actors, so a wave has a minute's work or so.
"""

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from labelwise.errors import LabelwiseError
from serving.bulk.chunks import Chunk
from serving.bulk.records import Records
from serving.bulk.rows import Row
from serving.bulk.sources.found import FoundPhoto, read_file
from serving.bulk.tag_options import TagOptions

logger = logging.getLogger("labelwise.bulk")

_WAVE = 2_000  # photos for each actor
_WAVE_BYTES = 256 * 2**20  # of photos out of archives
_WORDS = 300  # characters of an actor's last words


def _start_ray(workers: int | None) -> int:
    """Join the cluster of RAY_ADDRESS, or start one on this machine; how many actors it shall have."""
    import ray

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    return workers or int(ray.cluster_resources().get("CPU", 1))


def score_on_ray(
    chunks: Iterator[Chunk],
    options: TagOptions,
    batch: int,
    records: Records,
    is_stopped: Callable[[], bool],
) -> None:
    """Give all of `chunks` to actors, `batch` photos at a time, and what they make of them to `records`."""
    workers = _start_ray(options.workers)
    for wave in _waves(chunks, workers):
        records.skip(wave)
        records.keep(wave.rows)
        for rows in _tagged(wave.photos, options, batch, workers) if wave.photos else ():
            records.keep(rows)
            if is_stopped():
                return


def _waves(chunks: Iterator[Chunk], workers: int) -> Iterator[Chunk]:
    wave = Chunk()
    for chunk in chunks:
        wave.photos += chunk.photos
        wave.rows += chunk.rows
        wave.skipped += chunk.skipped
        wave.skipped_broken += chunk.skipped_broken
        held = sum(photo.size for photo in wave.photos if photo.file is None)
        if len(wave.photos) >= _WAVE * workers or held > _WAVE_BYTES:
            yield wave
            wave = Chunk()
    yield wave


def _tagged(photos: Sequence[FoundPhoto], options: TagOptions, batch: int, workers: int) -> Iterator[list[Row]]:
    import ray
    import ray.data

    shared = replace(options, repository=options.repository.absolute(), threads=1)  # actors have folders of their own
    blocks = min(len(photos), max(workers * 4, len(photos) // 256))
    tagged = ray.data.from_items([_item(photo) for photo in photos], override_num_blocks=blocks).map_batches(
        _Actor,
        fn_constructor_args=(shared,),
        batch_size=batch,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    try:
        for table in tagged.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield [_row(item) for item in table.to_pylist()]
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise LabelwiseError(f"Ray could not go on: {' '.join(str(cause).split())[-_WORDS:]}") from error


class _Actor:
    """One process of the cluster, which holds the tagger. A batch is columns of `_item`s, and becomes those of rows."""

    def __init__(self, options: TagOptions) -> None:
        self._loop = asyncio.new_event_loop()
        transport = options.transport()
        self._loop.run_until_complete(transport.connect())
        self._scorer, _ = options.scorer(transport, logger.warning)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        photos = [_photo(*values) for values in zip(*(batch[name] for name in _ITEM), strict=True)]
        rows = self._loop.run_until_complete(self._scorer.score(photos))
        return {
            "path": [row.path for row in rows],
            "size": [row.size for row in rows],
            "mtime_ns": [row.mtime_ns for row in rows],
            "scores": [b"" if row.scores is None else row.scores.astype("<f4").tobytes() for row in rows],
            "error": [row.error or "" for row in rows],
            "detail": [row.detail or "" for row in rows],
        }


_ITEM = ("path", "size", "mtime_ns", "file", "data")


def _item(photo: FoundPhoto) -> dict[str, Any]:
    """As Arrow can carry it; the file's name as bytes, for it may be no UTF-8."""
    file, data = (os.fsencode(os.path.abspath(photo.file)), b"") if photo.file else (b"", photo.read())  # noqa: PTH100
    return dict(zip(_ITEM, (photo.path, photo.size, photo.mtime_ns, file, data), strict=True))


def _photo(path: str, size: int, mtime_ns: int, file: bytes, data: bytes) -> FoundPhoto:
    if not file:
        return FoundPhoto(str(path), int(size), int(mtime_ns), lambda: bytes(data))
    name = os.fsdecode(file)
    return FoundPhoto(str(path), int(size), int(mtime_ns), functools.partial(read_file, name), name)


def _row(item: dict[str, Any]) -> Row:
    scores = np.frombuffer(item["scores"], "<f4") if item["scores"] else None
    return Row(item["path"], item["size"], item["mtime_ns"], scores, item["error"] or None, item["detail"] or None)
