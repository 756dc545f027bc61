"""How photos best reach Triton: as pixels decoded here, in shared memory or not, or as files that it decodes.

    python benchmarks/send.py [--rounds 5] [--seconds 8] [PHOTO ...]

Everything runs on this machine, so client and Triton share its cores. The CPU time per photo, for each and for both,
tells what to expect on separate machines. The ways take turns in each round. Prints a Markdown table. Linux only.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import tritonclient.grpc as grpcclient
from process_tree import cpu_of
from tritonclient.utils import InferenceServerException

from serving.client import Tagger
from serving.local_triton.install import find_triton

ROOT = Path(__file__).parent.parent
REPOSITORY = ROOT / "model_repository"
GRPC_PORT, METRICS_PORT = 18001, 18002
BATCH = 16
WAYS: dict[str, dict[str, Any]] = {
    "pixels, in shared memory": {"send": "pixels", "shared_memory": True},
    "pixels, in the request": {"send": "pixels", "shared_memory": False},
    "bytes": {"send": "bytes"},
}

Row = dict[str, float]


@contextmanager
def triton(folder: Path) -> Iterator[int]:
    """Runs a Triton that allows shared memory, unlike that of `labelwise serve`. Yields its process id."""
    install = find_triton()
    (folder / "backends").mkdir()
    command = [
        str(install.binary),
        f"--model-repository={REPOSITORY}",
        f"--backend-directory={install.lay_out_backends(folder / 'backends')}",
        *(
            "--disable-auto-complete-config",
            "--allow-http=false",
            "--backend-config=python,shm-default-byte-size=4194304",
        ),
        *("--grpc-address=127.0.0.1", f"--grpc-port={GRPC_PORT}", f"--metrics-port={METRICS_PORT}"),
        *([] if install.has_onnxruntime else ["--model-config-name=python"]),
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=install.environment(), stdout=log, stderr=log, start_new_session=True)
    try:
        with grpcclient.InferenceServerClient(f"127.0.0.1:{GRPC_PORT}") as client:
            while not ready(client):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def ready(client: grpcclient.InferenceServerClient) -> bool:
    try:
        return bool(client.is_server_ready())
    except InferenceServerException:
        return False


def tag(way: str, photos: list[Path], seconds: float, server: int) -> Row:
    """Returns images per second, and CPU milliseconds per image in the client and in Triton."""
    with Tagger(f"grpc://127.0.0.1:{GRPC_PORT}", "scenes", batch=BATCH, **WAYS[way]) as tagger:
        tagger.tag(photos)
        here, there, started = time.process_time(), cpu_of(server), time.perf_counter()
        results = tagger.tag_stream(cycle(photos))
        count = 0
        while (elapsed := time.perf_counter() - started) < seconds:
            assert next(results).error is None
            count += 1
    client, triton = time.process_time() - here, cpu_of(server) - there
    return {"rate": count / elapsed, "client": 1000 * client / count, "triton": 1000 * triton / count}


def in_turns(rounds: int, measure: Callable[[str], Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name in WAYS:
            found[name].append(measure(name))
            print(json.dumps({name: {key: round(value, 3) for key, value in found[name][-1].items()}}), file=sys.stderr)
    return found


def median(rows: list[Row], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="*", type=Path, default=sorted((ROOT / "tests/assets/photos").glob("*.jpg")))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, triton(Path(folder)) as server:
        sent = in_turns(arguments.rounds, lambda way: tag(way, arguments.photos, arguments.seconds, server))
    print("| sent | images/s: median (min to max) | CPU ms per photo: client | Triton | both |\n|---|---|---|---|---|")
    for way, rows in sent.items():
        rates, client, server_cpu = [row["rate"] for row in rows], median(rows, "client"), median(rows, "triton")
        print(
            f"| {way} | {statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f}) "
            f"| {client:.2f} | {server_cpu:.2f} | {client + server_cpu:.2f} |"
        )


if __name__ == "__main__":
    main()
