"""The expected wait, and the order in which photos are worked on."""

import asyncio

import pytest

from serving.gateway.requests.pace import Gate, Pace

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_the_wait_is_that_of_the_photos_ahead_at_the_measured_rate() -> None:
    now = 100.0
    pace = Pace(lambda: now)
    assert pace.wait(1000) == 0  # nothing is known yet
    pace.begin()
    now += 0.5
    pace.answered(1)
    assert pace.wait(10) == pytest.approx(5)
    for _ in range(100):
        now += 1.0
        pace.answered(4)
    assert pace.wait(10) == pytest.approx(2.5)


def test_idle_time_does_not_count() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    for _ in range(50):
        now += 60
        pace.begin()
        now += 0.1
        pace.answered(1)
    assert pace.wait(1) == pytest.approx(0.1)


async def entered(gate: Gate, count: int, order: list[int]) -> None:
    if not gate.enter_now(count):
        await gate.enter(count, 20)
    order.append(count)


async def test_photos_pass_in_the_order_of_arrival() -> None:
    gate, order = Gate(4), []
    await entered(gate, 3, order)
    large = asyncio.create_task(entered(gate, 4, order))
    await asyncio.sleep(0)
    small = asyncio.create_task(entered(gate, 1, order))  # would fit, but overtakes nobody
    await asyncio.sleep(0)
    assert order == [3]
    gate.leave(3)
    await large
    assert not small.done()
    gate.leave(4)
    await small
    assert order == [3, 4, 1]
    gate.leave(1)
    assert gate.enter_now(4)


async def test_who_gives_up_or_is_late_leaves_no_trace() -> None:
    gate = Gate(2)
    assert gate.enter_now(2)
    with pytest.raises(asyncio.TimeoutError):
        await gate.enter(1, 0.01)
    cancelled, at_once, last = (asyncio.create_task(gate.enter(count, 20)) for count in (2, 2, 1))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    gate.leave(2)
    at_once.cancel()  # at the moment in which it was let through
    await asyncio.gather(cancelled, at_once, return_exceptions=True)
    await last
    assert gate.enter_now(1)
    assert not gate.enter_now(1)
