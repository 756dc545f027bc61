"""Whether `labelwise serve --workers 2` on two cores answers twice as many photos as one worker on one core.

    python -m benchmarks.peers.workers [--rounds 3] [--seconds 4]

The clients share the second core with the second worker, so the photos for each second of the server's CPU time are
what scales, not the photos a second. Prints a Markdown table. Linux only.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import uvloop

from benchmarks.peers.contestants import CONTESTANTS, Contestant
from benchmarks.peers.load import Load
from benchmarks.peers.running import CLIENT_CORE, SERVER_CORE, running, server_processes
from benchmarks.peers.subject import Subject, read_subject
from benchmarks.process_tree import adopt_orphans

CONNECTIONS, MOST_WARMING = 16, 4.0
CORES = {1: (SERVER_CORE,), 2: (SERVER_CORE, CLIENT_CORE)}


async def measure(contestant: Contestant, subject: Subject, port: int, seconds: float) -> tuple[float, float]:
    """Returns photos a second, and photos for each second of the server's CPU time."""
    load = Load(lambda: contestant.protocol.connect(port), subject.requests(contestant.protocol))
    try:
        await load.grow(CONNECTIONS, MOST_WARMING)
        before, started = sum(server_processes().values()), time.perf_counter()
        window = await load.measure(seconds)
        used = (sum(server_processes().values()) - before) / (time.perf_counter() - started)
        return window.rate, window.rate / used
    finally:
        await load.stop()


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    arguments = parser.parse_args()
    adopt_orphans()
    os.sched_setaffinity(0, {CLIENT_CORE})
    ours = next(one for one in CONTESTANTS if one.key == "labelwise")
    found: dict[int, list[tuple[float, float]]] = {workers: [] for workers in CORES}
    with tempfile.TemporaryDirectory() as folder:
        subject = read_subject("scenes", Path(folder), any_precision=False)
        for number in range(arguments.rounds):
            for workers in sorted(CORES, reverse=number % 2 == 1):
                contestant = replace(ours, arguments=(*ours.arguments, "--workers", str(workers)))
                with running(contestant, subject, CORES[workers]) as (port, _):
                    found[workers].append(uvloop.run(measure(contestant, subject, port, arguments.seconds)))
                print(number + 1, workers, found[workers][-1], file=sys.stderr)
    print("| workers | images/s | images for each CPU second | of one worker's |\n|---|---|---|---|")
    for workers, rounds in found.items():
        ratios = [many[1] / one[1] for many, one in zip(rounds, found[1], strict=True)]
        rate, by_cpu = (statistics.median(entry[place] for entry in rounds) for place in (0, 1))
        print(f"| {workers} | {rate:.1f} | {by_cpu:.1f} | {spread(ratios)} |")


if __name__ == "__main__":
    main()
