"""A whole server under load: `labelwise serve` over HTTP, or its Triton over gRPC; or decoding alone.

    python -m benchmarks.gpu.end_to_end FOLDER http DEVICE PRECISION WORKERS [--quick]
    python -m benchmarks.gpu.end_to_end FOLDER grpc auto PRECISION 1 [--quick]
    python -m benchmarks.gpu.end_to_end FOLDER decoding [--quick]

Clients have one request of one JPEG under way each. They run on one core, and the server on the others.
"""

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import uvloop

from benchmarks.gpu.memory import note_memory
from benchmarks.gpu.subjects import BUNDLED, read_subject
from benchmarks.gpu.tasks import emit
from benchmarks.peers.contestants import LABELWISE_SETTINGS, Contestant
from benchmarks.peers.load import Load, Window
from benchmarks.peers.protocols import LABELWISE, TRITON
from benchmarks.peers.running import running, server_processes
from benchmarks.peers.subject import PHOTOS, Subject
from labelwise.image import load_pixels

CLIENTS = (16, 64)
_MOST_WARMING, _SECONDS = 4.0, 4.0


def cores_of_server() -> set[int]:
    """Returns all usable cores but one, which is the clients'; of one core, that one."""
    usable = sorted(os.sched_getaffinity(0))
    return set(usable[:-1] or usable)


def contestant_of(way: str, device: str, precision: str, workers: str) -> Contestant:
    command = ("-m", "labelwise", "serve", "--repository", "{repository}", "--precision", precision)
    if way == "http":
        arguments = (*command, "--port", "{port}", "--device", device, "--workers", workers)
        return Contestant("http", f"HTTP, {device}", arguments, LABELWISE, settings=LABELWISE_SETTINGS)
    settings = LABELWISE_SETTINGS | {"LABELWISE_TRITON_GRPC_PORT": "{port}"}  # the clients ask Triton itself
    arguments = (*command, "--engine", "triton", "--port", "{port_2}")
    return Contestant("grpc", "gRPC, Triton", arguments, TRITON, settings=settings)


async def load(contestant: Contestant, subject: Subject, port: int, is_quick: bool, facts: dict[str, object]) -> None:
    """Prints a row for each number of clients."""
    clients = Load(lambda: contestant.protocol.connect(port), subject.requests(contestant.protocol))
    try:
        for number in (2,) if is_quick else CLIENTS:
            await clients.grow(number, _MOST_WARMING)
            used, own, started = sum(server_processes().values()), time.process_time(), time.perf_counter()
            window = await clients.measure(0.5 if is_quick else _SECONDS)
            elapsed = time.perf_counter() - started
            cores = (sum(server_processes().values()) - used) / elapsed
            busy = (time.process_time() - own) / elapsed
            emit("end_to_end", **facts, clients=number, **seen(window), server_cores=cores, client_core_busy=busy)
    finally:
        await clients.stop()


def seen(window: Window) -> dict[str, float | int | None]:
    found = sorted((*window.latencies, *window.waiting))
    p50, p99 = (1000 * found[int(share * (len(found) - 1))] if found else None for share in (0.5, 0.99))
    rate = window.rate if window.latencies else 0.0
    return {"images_per_second": rate, "p50_ms": p50, "p99_ms": p99, "failed": window.failed, "refused": window.refused}


def serve(folder: Path, facts: dict[str, str], is_quick: bool) -> None:
    tagger = read_subject(folder, BUNDLED)
    subject = Subject(tagger, folder / BUNDLED, np.empty(0))
    contestant = contestant_of(**facts)
    cores, usable = cores_of_server(), os.sched_getaffinity(0)
    with running(contestant, subject, cores, clients=usable - cores or usable) as (port, cold_start):
        uvloop.run(load(contestant, subject, port, is_quick, {**facts, "tagger": BUNDLED}))
        what = f"server, {', '.join(facts.values())} worker processes"
        note_memory(what, list(server_processes()), cold_start)


def decode(folder: Path, is_quick: bool) -> None:
    """Decodes the same photos on the cores of the server, in as many threads, and does nothing else."""
    image = read_subject(folder, BUNDLED).spec.image
    photos = [photo.read_bytes() for photo in PHOTOS]
    os.sched_setaffinity(0, cores := cores_of_server())

    def one(photo: bytes) -> None:
        load_pixels(photo, image.height, image.width, image.resize, image.interpolation)

    count, started = 0, time.perf_counter()
    with ThreadPoolExecutor(len(cores)) as threads:
        while (elapsed := time.perf_counter() - started) < (0.2 if is_quick else 2.0):
            several = 16 * len(cores)
            list(threads.map(one, islice(cycle(photos), several)))
            count += several
    emit("decoding", tagger=BUNDLED, threads=len(cores), images_per_second=count / elapsed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("way", choices=("http", "grpc", "decoding"))
    parser.add_argument("device", nargs="?")
    parser.add_argument("precision", nargs="?")
    parser.add_argument("workers", nargs="?")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.way == "decoding":
        decode(arguments.folder, arguments.quick)
    else:
        facts = {name: getattr(arguments, name) for name in ("way", "device", "precision", "workers")}
        serve(arguments.folder, facts, arguments.quick)


if __name__ == "__main__":
    main()
