"""Whether the gateway's memory stays flat: sends real requests of every kind and records its resident memory.

    python benchmarks/memory.py [--requests 50000] [--every 2500] [--workers 1]

About two thirds of the requests are good: photos in seven formats and several sizes, to all four endpoints. The rest
are clients' mistakes: broken and empty photos, unknown labels and addresses, malformed forms, uploads given up half
way. Prints a Markdown table.
"""

import argparse
import asyncio
import collections
import contextlib
import io
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
from PIL import Image

ROOT = Path(__file__).parent.parent
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
SIDES = (96, 200, 640)
CONNECTIONS = 8

Request = tuple[str, dict[str, object]]  # address, and httpx's arguments


def photos() -> list[bytes]:
    """Returns every asset in some format and size; each format and each size occurs at least once."""
    made = []
    sources = sorted((ROOT / "tests/assets/photos").glob("*.jpg"))
    for number, (kind, side) in enumerate((kind, side) for kind in FORMATS for side in SIDES):
        picture = Image.open(sources[number % len(sources)]).convert("RGB")
        picture.thumbnail((side, side))
        picture.save(stream := io.BytesIO(), kind)
        made.append(stream.getvalue())
    return made


def requests(count: int, seed: int = 0) -> Iterator[Request]:
    """Returns this many requests, always in the same order."""
    chance, good = random.Random(seed), photos()
    kinds = {
        "tag": 50,
        "form": 6,
        "batch": 3,
        "explain": 3,
        "overlay": 1,
        "embed": 3,
        "truncated": 10,
        "noise": 6,
        "empty": 4,
        "label": 5,
        "address": 4,
        "malformed": 4,
        "gone": 1,
    }
    for kind in chance.choices(list(kinds), list(kinds.values()), k=count):
        yield request_of(kind, chance, good)


def request_of(kind: str, chance: random.Random, good: list[bytes]) -> Request:
    photo = chance.choice(good)
    made: dict[str, Request] = {
        "tag": ("/v1/tag", {"content": photo}),
        "form": ("/v1/tag?scores=all", {"files": {"file": ("a.jpg", photo)}}),
        "batch": ("/v1/tag:batch", {"files": [("files", (f"{n}.jpg", chance.choice(good))) for n in range(3)]}),
        "explain": ("/v1/explain", {"content": photo}),
        "overlay": ("/v1/explain", {"content": photo, "headers": {"Accept": "image/png"}}),
        "embed": ("/v1/embed", {"content": photo}),
        "truncated": ("/v1/tag", {"content": photo[: chance.randrange(len(photo))]}),
        "noise": ("/v1/tag", {"content": chance.randbytes(chance.randrange(1, 100_000))}),
        "empty": ("/v1/tag", {"content": b""}),
        "label": (f"/v1/tag?labels=no-{chance.random()}", {"content": photo}),
        "address": (f"/v1/{chance.random()}", {"content": b""}),
        "malformed": ("/v1/tag", {"content": photo, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}),
        "gone": ("gone", {"content": photo}),
    }
    return made[kind]


async def ask(client: httpx.AsyncClient, address: str, what: dict[str, object]) -> str:
    """Returns the status of the answer, or says that the upload was given up."""
    if address != "gone":
        return str((await client.post(address, **what)).status_code)  # type: ignore[arg-type]
    url = client.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"\xff" * 5000)
    await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return "given up"


def resident(pids: list[int]) -> float:
    """Returns the MiB that these processes hold privately, without mapped files."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


async def measure(url: str, pids: list[int], count: int, every: int) -> collections.Counter[str]:
    statuses: collections.Counter[str] = collections.Counter()
    todo = requests(count)

    async def one_client(client: httpx.AsyncClient) -> None:
        for address, what in todo:
            statuses[await ask(client, address, what)] += 1
            if (done := statuses.total()) % every == 0:
                print(f"| {done} | {resident(pids):.1f} |", flush=True)

    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        await asyncio.gather(*(one_client(client) for _ in range(CONNECTIONS)))
    return statuses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--every", type=int, default=2_500)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "labelwise", "serve", "--port", "0", "--workers", str(arguments.workers)]
    # The log of 50,000 requests could fill a pipe.
    gateway = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    try:
        assert gateway.stdout is not None
        url = gateway.stdout.readline().split()[-1]
        below = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()
        pids = [gateway.pid, *map(int, below)]
        print("| requests | memory, MiB |\n|---|---|")
        print(f"| 0 | {resident(pids):.1f} |", flush=True)
        statuses = asyncio.run(measure(url, pids, arguments.requests, arguments.every))
    finally:
        gateway.terminate()
        gateway.wait()
    print("\nAnswers: " + ", ".join(f"{status}: {number}" for status, number in sorted(statuses.items())) + ".")


if __name__ == "__main__":
    main()
