"""Decoded pixels that are held at once: within the budget, in order, and not without end."""

import asyncio
import threading
import time
from contextlib import ExitStack

import pytest

from serving.decoding.pixel_budget import PixelBudget

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


def test_a_small_share_waits_behind_a_large_one() -> None:
    budget, order = PixelBudget(100), []
    first = budget.ask(50, lambda: order.append(50))
    large = budget.ask(95, lambda: order.append(95))
    small = budget.ask(10, lambda: order.append(10))  # it would fit beside the 50, but then 95 might wait for ever
    assert order == [50]
    first.give_back()
    assert order == [50, 95]
    large.give_back()
    assert order == [50, 95, 10]
    assert small.is_held


def test_a_share_that_is_given_back_while_it_waits_makes_way() -> None:
    budget, order = PixelBudget(100), []
    first = budget.ask(50, lambda: order.append(50))
    large = budget.ask(95, lambda: order.append(95))
    budget.ask(10, lambda: order.append(10))
    large.give_back()
    large.give_back()  # a second time does nothing
    assert order == [50, 10]
    first.give_back()
    assert budget.ask(90, lambda: order.append(90)).is_held


def test_a_picture_larger_than_the_budget_is_held_alone() -> None:
    budget = PixelBudget(100)
    with budget.hold(1_000, PATIENCE), pytest.raises(asyncio.TimeoutError), budget.hold(1, 0.01):
        pass
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(budget.hold(1, 0.01))
