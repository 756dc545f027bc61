"""Speed of the training loader: images per second of random views, from files, from memory and from shards.

    python benchmarks/loader.py DATA [--size 128] [--batch 32] [--seconds 5]

The batches are not used, so a device that trains slower than this never waits for photos. Each row counts from its
first batch, when the workers are running. Without workers it also shows what one core does per second of processor
time, which other work on the machine does not change. Prints a Markdown table.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch

from labelwise.spec import ImageSpec
from training.augment import make_transform
from training.config import AugmentConfig
from training.data.eval_batches import EvalBatches
from training.data.labelled_data import LabelledData
from training.data.layouts import read_data
from training.data.photo_check import check_photos
from training.data.shard_writer import write_shards
from training.data.train_loader import FileLoader, LoaderSettings, ShardLoader, make_train_loader

WORKERS = (0, 1, 2)


def training_rate(loader: FileLoader | ShardLoader, seconds: float) -> tuple[float, float]:
    """Returns images per second, and per second of this process's own time, over as many epochs as needed."""
    batches = (batch for number in count() for batch in loader.epoch(number, views=1))
    next(batches)
    images, started, own = 0, time.perf_counter(), time.process_time()
    for _, targets in batches:
        images += len(targets)
        if (elapsed := time.perf_counter() - started) >= seconds:
            return images / elapsed, images / (time.process_time() - own)
    raise AssertionError


def rate(images: int, work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return images / (time.perf_counter() - started)


def measure(data: LabelledData, image: ImageSpec, batch: int, seconds: float, shards: Path) -> None:
    transform = make_transform(AugmentConfig(), image)
    total = len(data.train) + len(data.val)
    print("| | workers | images/s | images/s of one core |\n|---|---|---|---|")
    print(f"| check before the first epoch | threads | {rate(total, lambda: check_photos(data)):.0f} | |")
    decoding = rate(len(data.val), lambda: list(EvalBatches(data.val, image, batch, cache="none")))
    print(f"| val, decoded | threads | {decoding:.0f} | |")
    write_shards(data, shards, 8_000_000)
    for name, photos in (
        ("train, from files", data.train),
        ("train, from memory", check_photos(data, image=image, cache="memory").train),
        ("train, from shards", read_data(shards).train),
    ):
        for workers in WORKERS:
            loader = make_train_loader(photos, LoaderSettings(image, transform, batch, workers, seed=0))
            images, own = training_rate(loader, seconds)
            print(f"| {name} | {workers} | {images:.0f} | {'' if workers else f'{own:.0f}'} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as in a worker
    image = ImageSpec(height=arguments.size, width=arguments.size)
    with tempfile.TemporaryDirectory() as folder:
        measure(read_data(arguments.data), image, arguments.batch, arguments.seconds, Path(folder) / "shards")


if __name__ == "__main__":
    main()
