"""How many requests are in flight, against servers whose limits are known."""

import asyncio

import pytest

from serving.bulk.in_flight import InFlight


def settled(busy_from: int, seconds: float, most: int = 64, first: int = 2) -> int:
    """Places after ten minutes with a server that answers a request alone in `seconds`, and `busy_from` at once."""
    in_flight, now = InFlight(most, first), 0.0
    in_flight._begin(now)
    while now < 600:
        now += seconds / min(in_flight.places, busy_from)  # Little's law
        in_flight.answered(16, now)
    return in_flight.places


@pytest.mark.parametrize("busy_from", [1, 2, 4, 8, 30])
def test_it_finds_how_many_requests_keep_the_server_busy(busy_from: int):
    assert busy_from <= settled(busy_from, 0.1) <= max(3, 2 * busy_from)


def test_it_never_exceeds_its_limit():
    assert settled(64, 0.1, most=5) == 5
    assert settled(64, 0.1, most=1) == 1


def test_a_full_server_gets_fewer_requests():
    in_flight = InFlight(64, 8)
    in_flight.refused()
    assert in_flight.places == 4
    for _ in range(5):
        in_flight.refused()
    assert in_flight.places == 1


def test_no_more_requests_run_than_there_are_places():
    async def run() -> int:
        in_flight, running, most = InFlight(64, 3), 0, 0

        async def request() -> None:
            nonlocal running, most
            async with in_flight:
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.001)
                running -= 1

        await asyncio.gather(*(request() for _ in range(20)))
        return most

    assert asyncio.run(run()) == 3
