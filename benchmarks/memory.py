"""Whether the gateway's memory stays flat: its resident size while it answers many requests of every kind.

    python benchmarks/memory.py [--requests 50000] [--engine embedded]

Photographs, pictures in every format and colour mode, files that are refused, wrong parameters, batches, explanations,
embeddings, and uploads given up half-way, in turn, over 16 connections. Prints a Markdown table.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from itertools import cycle
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.serving.bad_images import REFUSED, TAGGED  # noqa: E402 - found once the line above has run

CONNECTIONS = 16
ROWS = 10

Request = Callable[[httpx.AsyncClient], Coroutine[None, None, int]]


def requests() -> Iterator[Request]:
    """One of each kind, over and over; each gives the status that came back, 0 for those that hang up themselves."""
    photos = [file.read_bytes() for file in sorted((ROOT / "tests/assets/photos").glob("*.jpg"))]
    odd = [*TAGGED.values(), *(data for data, _, _ in REFUSED.values())]
    kinds: list[Request] = [
        *(post("/v1/tag", photo) for photo in photos),
        *(post("/v1/tag?scores=all&top_k=1", data) for data in odd),
        post("/v1/tag?labels=no-such-label", photos[0]),
        post("/v1/tag?threshold=nan", photos[0]),
        post("/v1/explain", photos[1]),
        post("/v1/explain", photos[2], Accept="image/png"),
        post("/v1/embed", photos[3]),
        post("/v1/nowhere", photos[4]),
        batch([*photos[:4], *odd[:4]]),
        hang_up(photos[5]),
    ]
    yield from cycle(kinds)


def post(path: str, body: bytes, **headers: str) -> Request:
    async def send(client: httpx.AsyncClient) -> int:
        return (await client.post(path, content=body, headers=headers)).status_code

    return send


def batch(photos: list[bytes]) -> Request:
    async def send(client: httpx.AsyncClient) -> int:
        files = [("files", (f"{index}.jpg", photo)) for index, photo in enumerate(photos)]
        return (await client.post("/v1/tag:batch", files=files)).status_code

    return send


def hang_up(photo: bytes) -> Request:
    async def send(client: httpx.AsyncClient) -> int:
        url = client.base_url
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(photo))
        writer.write(photo[: len(photo) // 2])
        await writer.drain()
        writer.close()
        return 0

    return send


def resident(pid: int) -> float:
    """MiB that the process and its children hold now."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return (int(found[1]) / 1024 if found else 0) + sum(resident(int(child)) for child in children)


async def run(url: str, pid: int, count: int) -> Counter[int]:
    statuses: Counter[int] = Counter()
    work, started = requests(), time.monotonic()

    async def one_client(client: httpx.AsyncClient, share: int) -> None:
        for _ in range(share):
            statuses[await next(work)(client)] += 1

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for row in range(ROWS + 1):
            elapsed = time.monotonic() - started
            print(f"| {sum(statuses.values()):,} | {elapsed:.0f} | {resident(pid):.1f} |", flush=True)
            if row < ROWS:
                share = count // ROWS // CONNECTIONS
                await asyncio.gather(*(one_client(client, share) for _ in range(CONNECTIONS)))
    return statuses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--engine", choices=("embedded", "triton"), default="embedded")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "labelwise", "serve", "--port", "0", "--engine", arguments.engine]
    environment = os.environ | {"LABELWISE_LOG_LEVEL": "error"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as gateway:
        assert gateway.stdout is not None
        url = gateway.stdout.readline().split()[-1]
        print("| requests | seconds | resident MiB |\n| ---: | ---: | ---: |")
        try:
            statuses = asyncio.run(run(url, gateway.pid, arguments.requests))
        finally:
            gateway.terminate()
    answers = ", ".join(f"{count:,} × {status or 'hung up'}" for status, count in sorted(statuses.items()))
    print(f"\nAnswers: {answers}.")


if __name__ == "__main__":
    main()
