"""One turn of one server, and the checks before it."""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import uvloop

from benchmarks.peers.contestants import Contestant
from benchmarks.peers.environments import NotMeasured
from benchmarks.peers.load import Load, Window
from benchmarks.peers.running import SERVER_CORE, SERVERS, ask, on_cores, running, server_environment, server_processes
from benchmarks.peers.subject import PHOTOS, Subject
from benchmarks.process_tree import memory_of

CONNECTIONS, OVERLOAD = (1, 4, 16, 64), 128
_MOST_WARMING = 4.0  # seconds
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class BareLoop:
    """Images per second, CPU milliseconds per image, MiB."""

    rate: float
    cpu: float
    memory: float


@dataclass(frozen=True)
class Turn:
    """What was seen and the cores that the server kept busy, by connections; the most MiB; seconds to the first 200.

    `bare` is the loop of batch 8 right before. As shares of it, turns at different times can be compared.
    """

    windows: dict[int, Window]
    cpu: dict[int, float]
    memory: float
    cold_start: float
    bare: BareLoop

    def share(self, connections: int) -> float:
        """Returns the throughput as a share of the bare loop's."""
        return self.windows[connections].rate / self.bare.rate

    def cpu_per_image(self, connections: int) -> float:
        """Returns milliseconds per 200, with all that refusals cost."""
        return ratio(1000 * self.cpu[connections], self.windows[connections].rate)

    def share_by_cpu(self, connections: int) -> float:
        """As `share`, for images per second of CPU time. It says the same on a machine with other work."""
        return ratio(self.bare.cpu, self.cpu_per_image(connections))


def ratio(one: float, other: float) -> float:
    """Returns nan if `other` is 0, as of a server that answered nothing in a window."""
    return one / other if other else float("nan")


def run_bare_loop(subject: Subject, batch: int, seconds: float) -> BareLoop:
    command = [sys.executable, "bare_loop.py", str(batch), str(seconds), *map(str, PHOTOS)]
    with on_cores({SERVER_CORE}):
        done = subprocess.run(command, cwd=SERVERS, env=server_environment(subject), stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    return BareLoop(found["images"] / found["seconds"], 1000 * found["cpu"] / found["images"], found["memory"])


def check_answers(contestant: Contestant, subject: Subject) -> None:
    """Raises NotMeasured if the server does not start, or if its scores are not the expected ones."""
    with running(contestant, subject) as (port, _):
        asyncio.run(_compare(contestant, subject, port))


def take_turn(contestant: Contestant, subject: Subject, bare: BareLoop, seconds: float) -> Turn:
    """Raises NotMeasured if the server does not start, or ends during the turn."""
    with running(contestant, subject) as (port, cold_start):
        windows, cpu, memory = uvloop.run(_load(contestant, subject, port, seconds))
    return Turn(windows, cpu, memory, cold_start, bare)


async def _compare(contestant: Contestant, subject: Subject, port: int) -> None:
    labels = list(subject.tagger.spec.labels)
    answers = await asyncio.gather(
        *(ask(contestant, port, request) for request in subject.requests(contestant.protocol))
    )
    for photo, (status, answer), expected in zip(PHOTOS, answers, subject.expected, strict=True):
        if status != 200:
            raise NotMeasured(f"it answers {photo.name} with {status}: {answer[:200].decode(errors='replace')}")
        if (off := np.abs(contestant.protocol.scores(answer, labels) - expected).max()) > _TOLERANCE:
            raise NotMeasured(f"its scores of {photo.name} are off by {off:.6f}")


async def _load(
    contestant: Contestant, subject: Subject, port: int, seconds: float
) -> tuple[dict[int, Window], dict[int, float], float]:
    load = Load(lambda: contestant.protocol.connect(port), subject.requests(contestant.protocol))
    windows, cpu, memory = {}, {}, 0.0
    try:
        for connections in (*CONNECTIONS, OVERLOAD):
            await load.grow(connections, _MOST_WARMING)
            before, own, started = server_processes(), time.process_time(), time.perf_counter()
            windows[connections] = await load.measure(seconds)
            after, own, elapsed = server_processes(), time.process_time() - own, time.perf_counter() - started
            cpu[connections] = sum(used - before.get(process, 0.0) for process, used in after.items()) / elapsed
            memory = max(memory, memory_of(list(after)))  # under load still
            if own > 0.9 * elapsed:
                print(f"{contestant.key}: the load generator was busy, too, at {connections}", file=sys.stderr)
    finally:
        await load.stop()
    return windows, cpu, memory
