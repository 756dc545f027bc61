"""Pixels held decoded at once: within the budget, in order, and never for ever."""

import asyncio
import threading
import time
from contextlib import ExitStack

import pytest

from serving.gateway.requests.decoding import PixelBudget

PATIENCE = 30.0  # seconds


def test_no_more_is_held_than_the_budget_and_nobody_starves() -> None:
    budget, lock = PixelBudget(100), threading.Lock()
    held, most, finished = 0, 0, []

    def decode(pixels: int) -> None:
        nonlocal held, most
        with budget.hold(pixels, PATIENCE):
            with lock:
                held += pixels
                most = max(most, held)
            time.sleep(0.002)
            with lock:
                held -= pixels
                finished.append(pixels)

    threads = [threading.Thread(target=decode, args=(pixels,)) for pixels in (60, 70, 10, 30, 20) * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(finished) == 40
    assert 60 <= most <= 100


def test_who_comes_later_waits_behind_a_large_one() -> None:
    budget, order = PixelBudget(100), []

    def decode(pixels: int) -> None:
        with budget.hold(pixels, PATIENCE):
            order.append(pixels)

    with budget.hold(50, PATIENCE):
        threads = []
        for pixels in (90, 10):  # the 10 would fit beside the 50, but then 90 might wait for ever
            threads.append(threading.Thread(target=decode, args=(pixels,)))
            threads[-1].start()
            time.sleep(0.1)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == [90, 10]


def test_a_picture_larger_than_the_budget_is_held_alone() -> None:
    budget = PixelBudget(100)
    with budget.hold(1_000, PATIENCE), pytest.raises(asyncio.TimeoutError), budget.hold(1, 0.01):
        pass
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(budget.hold(1, 0.01))
