"""How quickly a function runs that several threads call at once, as the embedded engine's threads do."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

_WARMING = 2  # calls of each thread: a GPU prepares for each size of batch


@dataclass(frozen=True)
class Speed:
    """Calls per second of all threads together, and the sorted seconds that each call took."""

    rate: float
    latencies: list[float]

    def quantile(self, share: float) -> float:
        return self.latencies[int(share * (len(self.latencies) - 1))]


def measure(call: Callable[[], object], threads: int, seconds: float) -> Speed:
    """Calls again and again, `threads` at once, for about `seconds`; each thread at least once.

    With 0 seconds it does not warm up, either.
    """

    def repeat(end: float) -> list[float]:
        latencies, now = [], time.perf_counter()
        while not latencies or now < end:
            started = now
            call()
            now = time.perf_counter()
            latencies.append(now - started)
        return latencies

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_WARMING if seconds else 0):
            list(pool.map(lambda _: call(), range(threads)))
        started = time.perf_counter()
        found = list(pool.map(repeat, [started + seconds] * threads))
        elapsed = time.perf_counter() - started
    latencies = sorted(latency for part in found for latency in part)
    return Speed(len(latencies) / elapsed, latencies)
