"""A whole server under load: `labelwise serve` over HTTP, or its Triton over gRPC.

    python -m benchmarks.gpu.end_to_end FOLDER http DEVICE PRECISION WORKERS cpu|gpu [--quick]
    python -m benchmarks.gpu.end_to_end FOLDER grpc auto PRECISION 1 cpu [--quick]

The last word says where photos are decoded.

Clients have one request of one JPEG under way each. They run on one core, and the server on the others.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import uvloop

from benchmarks.gpu.cores import cores_of_server
from benchmarks.gpu.memory import note_memory
from benchmarks.gpu.subjects import BUNDLED, read_subject
from benchmarks.gpu.tasks import emit
from benchmarks.peers.contestants import LABELWISE_SETTINGS, Contestant
from benchmarks.peers.load import Load, Window
from benchmarks.peers.protocols import LABELWISE, TRITON
from benchmarks.peers.running import running, server_processes
from benchmarks.peers.subject import Subject

CLIENTS = (16, 64)
_MOST_WARMING, _SECONDS = 4.0, 4.0


def contestant_of(way: str, device: str, precision: str, workers: str, decode: str) -> Contestant:
    command = ("-m", "labelwise", "serve", "--repository", "{repository}", "--precision", precision)
    if way == "http":
        arguments = (*command, "--port", "{port}", "--device", device, "--workers", workers, "--decode", decode)
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
        way, device, precision, workers, decode = facts.values()
        what = f"server, {way}, {device}, {precision}, {workers} worker processes, photos decoded on the {decode}"
        note_memory(what, list(server_processes()), cold_start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("way", choices=("http", "grpc"))
    names = ("way", "device", "precision", "workers", "decode")
    for name in names[1:]:
        parser.add_argument(name)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    serve(arguments.folder, {name: getattr(arguments, name) for name in names}, arguments.quick)


if __name__ == "__main__":
    main()
