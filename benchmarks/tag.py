"""What bulk tagging costs: `labelwise tag` compared with a bare loop of decode + session.run on the same cores.

    python benchmarks/tag.py [--count 2000] [--rounds 3] [--memory 1000 20000] [--no-triton] [--photos FOLDER]

The photos are hard links to those of a folder, in a separate folder. The ways take turns in each round, and each
round gives ratios, so a drift in the machine's speed favours none. Prints Markdown tables: images per second of real
time, and the processor time of all processes per image, which changes little on a busy machine.
"""

import argparse
import contextlib
import functools
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import onnxruntime as ort
from process_tree import cpu_of

from labelwise.image import load_pixels
from labelwise.repository import Repository
from serving.bulk.tag_files import tag_files
from serving.bulk.tag_options import TagOptions
from serving.client import Tagger

ROOT = Path(__file__).parent.parent
REPOSITORY, NAME = ROOT / "model_repository", "scenes"
CORES = len(os.sched_getaffinity(0))


def link_photos(photos: list[Path], count: int, folder: Path) -> Path:
    """Makes `count` files of those photos, a thousand per folder."""
    for index, photo in enumerate(islice(cycle(photos), count)):
        link = folder / f"{index // 1000:03d}" / f"{index:06d}{photo.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.hardlink_to(photo)
        except OSError:  # another file system
            shutil.copy(photo, link)
    return folder


def bare_loop(folder: Path) -> None:
    """Runs the bare loop, one photo at a time on each core."""
    versions = Repository.open(REPOSITORY).taggers[NAME]
    tagger = versions[max(versions)]
    image, name = tagger.spec.image, tagger.spec.input.name
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(tagger.weights, options, providers=["CPUExecutionProvider"])

    def one(photo: Path) -> None:
        pixels = load_pixels(photo.read_bytes(), image.height, image.width, image.resize, image.interpolation)
        session.run(["scores"], {name: pixels[np.newaxis]})

    with ThreadPoolExecutor(CORES) as threads:
        list(threads.map(one, folder.rglob("*.*")))


def one_at_a_time(folder: Path, server: str) -> None:
    """Sends one photo per request, and the next one only after the answer."""
    with Tagger(server, model=NAME) as tagger:
        for photo in folder.rglob("*.*"):
            tagger.tag([photo])


def bulk(folder: Path, **options: object) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        places = {"out": f"{scratch}/t.parquet", "repository": REPOSITORY, "model": NAME}
        tag_files([str(folder)], TagOptions(**places, **options))  # type: ignore[arg-type]


@contextlib.contextmanager
def triton() -> Iterator[str]:
    """Runs a Triton on the bundled repository. Yields its gRPC address."""
    ports = []
    for _ in range(2):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
    settings = {"LABELWISE_TRITON_GRPC_PORT": str(ports[0]), "LABELWISE_TRITON_METRICS_PORT": str(ports[1])}
    command = [sys.executable, "-m", "labelwise", "serve", "--engine", "triton", "--precision", "fp32", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | settings)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert re.search("ready", line), f"the gateway did not start: {line!r}"
        yield f"grpc://127.0.0.1:{ports[0]}"
    finally:
        process.terminate()
        process.wait()


def measure(work: Callable[[], None], count: int) -> tuple[float, float]:
    """Returns images per second, and milliseconds of processor time per image, including servers below this process."""
    before, started = cpu_of(os.getpid()), time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    return count / seconds, (cpu_of(os.getpid()) - before) / count * 1000


def ways(folder: Path, server: str | None) -> dict[str, Callable[[], None]]:
    """Returns name -> a function that tags all of `folder` in that way. The others are compared with the first."""
    found = {
        "bare loop": functools.partial(bare_loop, folder),
        "embedded engine, fp32": functools.partial(bulk, folder, precision="fp32"),
        "embedded engine, default precision": functools.partial(bulk, folder),
    }
    if server:
        found |= {
            "Triton, pixels": functools.partial(bulk, folder, servers=server),
            "Triton, bytes": functools.partial(bulk, folder, servers=server, send="bytes"),
            "Triton, one photo at a time": functools.partial(one_at_a_time, folder, server),
        }
        for places in (1, 8, 32):
            found[f"Triton, pixels, {places} in flight"] = functools.partial(
                bulk, folder, servers=server, in_flight=places
            )
    return found


def compare(found: dict[str, Callable[[], None]], count: int, rounds: int) -> None:
    """Prints one line per way."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
    for round_ in range(rounds):
        for name, work in found.items():
            measured[name].append(measure(work, count))
            print(f"round {round_ + 1}: {name}: {measured[name][-1]}", file=sys.stderr)
    print("| way | images/s | as a share of the bare loop: median (min to max) | CPU ms per image |\n|---|---|---|---|")
    bare = [rate for rate, _ in next(iter(measured.values()))]
    for name, results in measured.items():
        shares = [rate / base for (rate, _), base in zip(results, bare, strict=True)]
        rate, cpu = (statistics.median(values) for values in zip(*results, strict=True))
        span = f"{statistics.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})"
        print(f"| {name} | {rate:.1f} | {span} | {cpu:.2f} |")


def memory(photos: list[Path], counts: list[int]) -> None:
    """Prints the peak memory of the whole command for each number of files."""
    print("\n| files | peak memory of `labelwise tag`, MiB | seconds |\n|---|---|---|")
    for count in counts:
        with tempfile.TemporaryDirectory() as scratch:
            folder = link_photos(photos, count, Path(scratch, "photos"))
            options = ["--model", NAME, "--out", f"{scratch}/t.parquet"]
            command = [sys.executable, "-m", "labelwise", "tag", folder, *options]
            started = time.perf_counter()
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0, process.returncode
        print(f"| {count:,} | {usage.ru_maxrss / 1024:.0f} | {time.perf_counter() - started:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=ROOT / "tests/assets/photos", help="folder of JPEGs")
    parser.add_argument("--count", type=int, default=2000, help="files per run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="*", default=[1000, 20_000], help="numbers of files")
    parser.add_argument("--no-triton", dest="triton", action="store_false")
    arguments = parser.parse_args()
    photos = sorted(arguments.photos.rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as scratch, triton() if arguments.triton else nullcontext() as server:
        folder = link_photos(photos, arguments.count, Path(scratch, "photos"))
        compare(ways(folder, server), arguments.count, arguments.rounds)
    memory(photos, arguments.memory)


if __name__ == "__main__":
    main()
