"""What the gateway costs: its throughput on one core as a share of a bare loop of decode + session.run on that core.

    python benchmarks/gateway.py [--rounds 5] [--seconds 8] [--beside CHECKOUT] [PHOTO ...]

The load comes from another core, so two are needed. Bare loop and gateway take turns, and each round gives one ratio,
so a drift in the machine's speed favours neither. The processor time per photo says the same on a machine with other
work. Prints a Markdown table. Linux only.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

import httpx
import numpy as np
import onnxruntime as ort

from labelwise.image import load_pixels
from labelwise.repository import Repository, TaggerVersion

ROOT = Path(__file__).parent.parent
REPOSITORY, NAME = ROOT / "model_repository", "scenes"
SERVER_CORE, CLIENT_CORE = 0, 1
CONNECTIONS = 4


def bare_loop(photos: list[bytes], seconds: float, tagger: TaggerVersion) -> tuple[float, float]:
    """Runs the bare loop in this process on the server's core. Returns images per second and CPU seconds per image."""
    os.sched_setaffinity(0, {SERVER_CORE})
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(tagger.weights, options, providers=["CPUExecutionProvider"])
    image, name = tagger.spec.image, tagger.spec.input.name
    started, used = time.perf_counter(), time.process_time()
    for count, photo in enumerate(cycle(photos), 1):
        pixels = load_pixels(photo, image.height, image.width, image.resize, image.interpolation)
        session.run(["scores"], {name: pixels[np.newaxis]})
        if (elapsed := time.perf_counter() - started) >= seconds:
            return count / elapsed, (time.process_time() - used) / count
    raise AssertionError


async def load(url: str, photos: list[bytes], seconds: float) -> tuple[float, list[float]]:
    """Returns images per second and latencies in seconds for CONNECTIONS clients with one request at a time each."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def one_client(client: httpx.AsyncClient) -> None:
        for photo in cycle(photos):
            started = time.perf_counter()
            if started >= end:
                return
            response = await client.post(f"{url}/v1/tag?model={NAME}", content=photo)
            response.raise_for_status()
            latencies.append(time.perf_counter() - started)

    async with httpx.AsyncClient(timeout=60) as client:
        started = time.perf_counter()
        await asyncio.gather(*(one_client(client) for _ in range(CONNECTIONS)))
        return len(latencies) / (time.perf_counter() - started), latencies


def cpu_seconds(pid: int) -> float:
    """Returns the processor time of all threads of a process since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_gateway(checkout: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "labelwise", "serve", "--repository", str(checkout / "model_repository")]
    process = subprocess.Popen(
        [*command, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=checkout,
        env=os.environ | {"LABELWISE_THREADS": "1", "LABELWISE_PRECISION": "fp32", "PYTHONPATH": str(checkout)},
        preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
    )
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


def measured(pid: int, url: str, photos: list[bytes], seconds: float) -> dict[str, float]:
    os.sched_setaffinity(0, {CLIENT_CORE})
    before = cpu_seconds(pid)
    served, latencies = asyncio.run(load(url, photos, seconds))
    used = (cpu_seconds(pid) - before) / len(latencies)
    return {"speed": served, "cpu": used, "p50": statistics.median(latencies)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="*", type=Path, default=sorted((ROOT / "tests/assets/photos").glob("*.jpg")))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--beside", action="append", type=Path, default=[], metavar="CHECKOUT")
    arguments = parser.parse_args()
    photos = [photo.read_bytes() for photo in arguments.photos]
    versions = Repository.open(REPOSITORY).taggers[NAME]
    tagger = versions[max(versions)]
    bare: list[dict[str, float]] = []
    gateways: dict[str, list[dict[str, float]]] = {}
    with contextlib.ExitStack() as stack:
        running = {}
        for name, checkout in [("gateway", ROOT), *((str(path), path.resolve()) for path in arguments.beside)]:
            process, url = start_gateway(checkout)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            running[name] = process.pid, url
        for number in range(arguments.rounds):
            names = sorted(running, reverse=number % 2 == 1)  # so that none is always the first
            for name in names:
                gateways.setdefault(name, []).append(measured(*running[name], photos, arguments.seconds))
            speed, used = bare_loop(photos, arguments.seconds, tagger)
            bare.append({"speed": speed, "cpu": used})
            print(
                number + 1,
                {name: round(rounds[-1]["speed"] / speed, 3) for name, rounds in gateways.items()},
                file=sys.stderr,
            )
    print_table(bare, gateways)


def print_table(bare: list[dict[str, float]], gateways: dict[str, list[dict[str, float]]]) -> None:
    def middle(rounds: list[dict[str, float]], key: str) -> float:
        return statistics.median(entry[key] for entry in rounds)

    print("| | images/s | of the bare loop | CPU ms per image | of the bare loop | p50 ms |\n|---|---|---|---|---|---|")
    print(f"| bare loop | {middle(bare, 'speed'):.1f} | 1 | {middle(bare, 'cpu') * 1000:.2f} | 1 | |")
    for name, rounds in gateways.items():
        speeds = spread([entry["speed"] / base["speed"] for entry, base in zip(rounds, bare, strict=True)])
        costs = spread([base["cpu"] / entry["cpu"] for entry, base in zip(rounds, bare, strict=True)])
        print(
            f"| {name} | {middle(rounds, 'speed'):.1f} | {speeds} | {middle(rounds, 'cpu') * 1000:.2f} | {costs} "
            f"| {middle(rounds, 'p50') * 1000:.1f} |"
        )


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
