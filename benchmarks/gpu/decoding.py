"""Decoding alone, on the CPU or on the GPU: how fast it is, and how far its pixels and scores are from the CPU's.

    python -m benchmarks.gpu.decoding FOLDER cpu [--quick]
    python -m benchmarks.gpu.decoding FOLDER gpu [--quick]

Decodes the same photos again and again, in as many threads as the server has cores. Also counts the photos that the GPU
left to the CPU, and the damaged files that one way refuses and the other does not.
"""

import argparse
import io
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.decode import enlarged
from benchmarks.gpu.cores import cores_of_server
from benchmarks.gpu.subjects import BUNDLED, PHOTOS, read_subject
from benchmarks.gpu.tasks import emit
from labelwise.image import ImageError, Photo, load_photo
from labelwise.repository import TaggerVersion
from serving.onnx_session import load_session, run_session

Load = Callable[[bytes], Photo]
_PHONE = (4000, 3000)
_ROUNDS = 16  # photos for each thread before the clock is read again


class _Left(logging.Handler):
    """Counts the warnings about photos that the GPU did not decode."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0
        logging.getLogger("labelwise.decoder").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def loads(tagger: TaggerVersion, where: str) -> tuple[Load, Load]:
    """Returns what loads photos `where` it is asked, and what loads them on the CPU."""
    image = tagger.spec.image
    asked = {
        "height": image.height,
        "width": image.width,
        "resize": image.resize,
        "interpolation": image.interpolation,
    }
    on_cpu = partial(load_photo, **asked)
    if where == "cpu":
        return on_cpu, on_cpu
    from serving.decoding.gpu_photos import open_gpu_photos

    return partial(open_gpu_photos().load_photo, **asked), on_cpu


def rate(load: Load, photos: Sequence[bytes], threads: int, seconds: float) -> float:
    """Returns images per second of `threads` threads, after each has decoded one."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(load, islice(cycle(photos), threads)))
        count, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds or not count:
            count += len(list(pool.map(load, islice(cycle(photos), min(_ROUNDS, len(photos)) * threads))))
    return count / elapsed


def scores(tagger: TaggerVersion, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [n, h, w, 3] -> [n, l], in fp32 on the CPU."""
    session = load_session(tagger, 0)
    return np.concatenate([run_session(session, tagger.spec, one[np.newaxis], ("scores",))["scores"] for one in pixels])


def differences(tagger: TaggerVersion, ways: tuple[Load, Load], photos: Sequence[bytes]) -> dict[str, float]:
    ours, theirs = (np.stack([load(photo).pixels for photo in photos]) for load in ways)
    gaps = np.abs(ours.astype(np.int16) - theirs)
    largest = float(np.abs(scores(tagger, ours) - scores(tagger, theirs)).max())
    return {"pixels_mean": float(gaps.mean()), "pixels_most": int(gaps.max()), "scores_largest": largest}


def disagreements(ways: tuple[Load, Load], photos: Sequence[bytes]) -> int:
    """Counts files that are cut off, each with an end marker, of which the two ways do not say the same."""
    cut = [photo[: len(photo) * tenths // 10] + b"\xff\xd9" for photo in photos for tenths in (3, 5, 7, 9)]
    return sum(_is_refused(ways[0], data) != _is_refused(ways[1], data) for data in cut)


def _is_refused(load: Load, data: bytes) -> bool:
    try:
        load(data)
    except ImageError:
        return True
    return False


def phone_photo() -> bytes:
    stream = io.BytesIO()
    enlarged(_PHONE).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("where", choices=("cpu", "gpu"))
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    small = [photo.read_bytes() for photo in PHOTOS]
    kinds = {"640 × 480": small[:2]} if arguments.quick else {"640 × 480": small, "4000 × 3000": [phone_photo()]}
    tagger = read_subject(arguments.folder, BUNDLED)
    os.sched_setaffinity(0, cores := cores_of_server())
    left, ways = _Left(), loads(tagger, arguments.where)
    for name, photos in kinds.items():
        facts = {"where": arguments.where, "photos": name, "threads": len(cores)}
        speed = rate(ways[0], photos, len(cores), 0.2 if arguments.quick else 2.0)
        found = differences(tagger, ways, photos)
        emit("decoding", **facts, images_per_second=speed, **found, left_to_cpu=left.count)
    emit("damaged", where=arguments.where, disagreements=disagreements(ways, small[: len(kinds["640 × 480"])]))


if __name__ == "__main__":
    main()
