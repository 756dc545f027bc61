"""What the gateway costs: its throughput on one core as a share of a bare loop of decode + session.run on that core.

    python benchmarks/gateway.py [--rounds 5] [--seconds 8] [PHOTO ...]

The load comes from another core, so two are needed. Bare loop and gateway take turns, and each round gives one ratio,
so a drift in the machine's speed favours neither. The processor time per photo says the same on a machine with other
work. Prints a Markdown table. Linux only.
"""

import argparse
import asyncio
import json
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
            response = await client.post(f"{url}/v1/tag", content=photo)
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


def start_gateway() -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "labelwise", "serve", "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"LABELWISE_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
    )
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


def one_round(pid: int, url: str, photos: list[bytes], seconds: float, tagger: TaggerVersion) -> dict[str, float]:
    os.sched_setaffinity(0, {CLIENT_CORE})
    before = cpu_seconds(pid)
    served, latencies = asyncio.run(load(url, photos, seconds))
    used = (cpu_seconds(pid) - before) / len(latencies)
    bare, bare_used = bare_loop(photos, seconds, tagger)
    return {
        "bare": bare,
        "gateway": served,
        "ratio": served / bare,
        "p50": statistics.median(latencies),
        "bare_cpu": bare_used,
        "cpu": used,
        "cpu_ratio": bare_used / used,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="*", type=Path, default=sorted((ROOT / "tests/assets/photos").glob("*.jpg")))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    arguments = parser.parse_args()
    photos = [photo.read_bytes() for photo in arguments.photos]
    (versions,) = Repository.open(ROOT / "model_repository").taggers.values()
    tagger = versions[max(versions)]
    gateway, url = start_gateway()
    rounds = []
    try:
        for _ in range(arguments.rounds):
            rounds.append(one_round(gateway.pid, url, photos, arguments.seconds, tagger))
            print(json.dumps({key: round(value, 4) for key, value in rounds[-1].items()}), file=sys.stderr)
    finally:
        gateway.terminate()
        gateway.wait()
    middle = {key: statistics.median(entry[key] for entry in rounds) for key in rounds[0]}
    print(
        "| | bare loop | gateway | ratio: median (min to max) |\n|---|---|---|---|\n"
        f"| images/s | {middle['bare']:.1f} | {middle['gateway']:.1f} | {spread(rounds, 'ratio')} |\n"
        f"| CPU ms per image | {middle['bare_cpu'] * 1000:.2f} | {middle['cpu'] * 1000:.2f} "
        f"| {spread(rounds, 'cpu_ratio')} |\n\nLatency p50: {middle['p50'] * 1000:.1f} ms."
    )


def spread(rounds: list[dict[str, float]], key: str) -> str:
    values = [entry[key] for entry in rounds]
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
