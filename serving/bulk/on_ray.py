"""`labelwise tag --ray`: the same tagging by actors of Ray, on as many machines as its cluster has.

This process finds the photos and writes the journal and the output, which is little work. The actors read the photos
from storage that all machines share, decode and tag them; photos in archives travel with their bytes. Ray restarts an
actor that was lost and gives it its photos again.
"""

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from labelwise.errors import LabelwiseError
from serving.bulk.chunks import Chunk
from serving.bulk.rows import Row
from serving.bulk.sources.found import FoundPhoto, read_file
from serving.bulk.tag_options import TagOptions

logger = logging.getLogger("labelwise.bulk")

REQUESTS_A_CHUNK = 4  # fewer, larger messages to actors
_WORDS = 300  # characters of an actor's last words


def score_on_ray(
    chunks: Iterator[Chunk],
    options: TagOptions,
    batch: int,
    keep: Callable[[Chunk], None],
    is_stopped: Callable[[], bool],
) -> None:
    """Have actors score all `chunks`, `batch` photos per request, and give the rows to `keep`."""
    import ray

    try:
        pool = _start_actors(options, batch)
        for chunk in chunks:
            keep(chunk)
            if not pool.has_free():
                keep(Chunk(rows=pool.get_next_unordered()))
            if is_stopped():
                return
            if chunk.photos:
                photos = [_anywhere(photo) for photo in chunk.photos]
                pool.submit(lambda actor, photos: actor.score.remote(photos), photos)
        while pool.has_next() and not is_stopped():
            keep(Chunk(rows=pool.get_next_unordered()))
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise LabelwiseError(f"Ray could not go on: {' '.join(str(cause).split())[-_WORDS:]}") from error


def _start_actors(options: TagOptions, batch: int) -> Any:
    """On the cluster of RAY_ADDRESS, or on a Ray that is started on this machine."""
    import ray
    from ray.util import ActorPool

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    shared = replace(options, repository=options.repository.absolute(), threads=1)  # actors have other current folders
    actor = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)(_TaggingActor)
    actors = [actor.remote(shared, batch) for _ in range(options.workers or int(ray.cluster_resources().get("CPU", 1)))]
    return ActorPool(actors * 2)  # each has a chunk waiting while it scores one


class _TaggingActor:
    """One process of the cluster, which holds the tagger."""

    def __init__(self, options: TagOptions, batch: int) -> None:
        self._loop, self._batch = asyncio.new_event_loop(), batch
        transport = options.transport()
        self._loop.run_until_complete(transport.connect())
        self._scorer, _ = options.scorer(transport, logger.warning)

    def score(self, photos: Sequence[FoundPhoto]) -> list[Row]:
        requests = (photos[at : at + self._batch] for at in range(0, len(photos), self._batch))
        return [row for request in requests for row in self._loop.run_until_complete(self._scorer.score(request))]


def _anywhere(photo: FoundPhoto) -> FoundPhoto:
    """The photo with an absolute path, for actors with another current folder."""
    if photo.file is None:
        return photo
    file = os.path.abspath(photo.file)  # noqa: PTH100
    return replace(photo, file=file, read=functools.partial(read_file, file))
