"""What the gateway does under more load than it can take: how many it answers, how late, and whether any are lost.

    python benchmarks/overload.py [--seconds 10] [--loads 0.5 1 2 4] [PHOTO ...]

The load comes from another core at its own pace (Poisson), independent of the answers, as in production. The
capacity is measured first, with a few clients that wait for each answer. Prints a Markdown table.
"""

import argparse
import asyncio
import os
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import httpx
from gateway import CLIENT_CORE, NAME, ROOT, load, start_gateway


@dataclass
class Outcome:
    """For one load: sent requests, seconds until the last answer, answers by status (0: no answer), seconds of the
    200s and of the refusals, answers with another's id.
    """

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    lasted: float = 0.0  # until the last answer
    seconds: list[float] = field(default_factory=list)
    refused_seconds: list[float] = field(default_factory=list)
    mixed_up: int = 0


async def open_loop(url: str, photos: list[bytes], rate: float, seconds: float) -> Outcome:
    """Sends `rate` requests per second on average, each at its own time."""
    outcome, tasks, pace = Outcome(), set(), random.Random(0)
    address = f"{url}/v1/tag?model={NAME}"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)

    async def one(client: httpx.AsyncClient, photo: bytes, request_id: str) -> None:
        started = time.perf_counter()
        try:
            answer = await client.post(address, content=photo, headers={"X-Request-ID": request_id})
        except httpx.HTTPError:
            outcome.statuses[0] += 1
            return
        outcome.statuses[answer.status_code] += 1
        if answer.status_code != 503:  # which the 1001st connection gets before its request is read
            outcome.mixed_up += answer.json()["request_id"] != request_id
        (outcome.seconds if answer.status_code == 200 else outcome.refused_seconds).append(
            time.perf_counter() - started
        )

    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        due = time.perf_counter()
        end = due + seconds
        for photo in cycle(photos):
            due += pace.expovariate(rate)
            if due >= end:
                break
            await asyncio.sleep(due - time.perf_counter())
            tasks.add(asyncio.create_task(one(client, photo, f"{rate:.3f}-{outcome.sent}")))
            outcome.sent += 1
        await asyncio.gather(*tasks)
    outcome.lasted = time.perf_counter() - end + seconds
    return outcome


def row(times: float, outcome: Outcome, seconds: float) -> str:
    def percentile(values: list[float], share: float) -> str:
        return f"{1000 * sorted(values)[int(share * (len(values) - 1))]:.0f}" if values else ""

    others = sum(count for status, count in outcome.statuses.items() if status not in (200, *REFUSALS))
    unanswered = outcome.sent - sum(outcome.statuses.values()) + outcome.statuses[0]
    cells = [
        f"{times:g}",
        f"{outcome.sent / seconds:.0f}",
        f"{outcome.lasted:.0f}",
        f"{outcome.statuses[200] / outcome.lasted:.0f}",
        f"{100 * sum(outcome.statuses[status] for status in REFUSALS) / outcome.sent:.0f} %",
        percentile(outcome.seconds, 0.5),
        percentile(outcome.seconds, 0.99),
        percentile(outcome.refused_seconds, 0.99),
        str(others),
        str(unanswered),
        str(outcome.mixed_up),
    ]
    return f"| {' | '.join(cells)} |"


REFUSALS = (429, 503)
HEADINGS = (
    *("load", "sent/s", "answered for s", "tagged/s", "refused", "p50 ms", "p99 ms", "p99 ms of refusals"),
    *("other errors", "unanswered", "another's answer"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="*", type=Path, default=sorted((ROOT / "tests/assets/photos").glob("*.jpg")))
    parser.add_argument(
        "--loads", nargs="+", type=float, default=[0.5, 1, 2, 4], help="loads as multiples of the capacity"
    )
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    photos = [photo.read_bytes() for photo in arguments.photos]
    gateway, url = start_gateway(ROOT)
    try:
        os.sched_setaffinity(0, {CLIENT_CORE})
        capacity = statistics.median(asyncio.run(load(url, photos, arguments.seconds / 2))[0] for _ in range(3))
        print(f"Capacity: {capacity:.1f} photos/s on one core.\n")
        print(f"| {' | '.join(HEADINGS)} |\n|{' ---: |' * len(HEADINGS)}")
        for times in arguments.loads:
            outcome = asyncio.run(open_loop(url, photos, times * capacity, arguments.seconds))
            print(row(times, outcome, arguments.seconds), flush=True)
    finally:
        gateway.terminate()
        gateway.wait()


if __name__ == "__main__":
    main()
