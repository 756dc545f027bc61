"""A call is given up if its server gives no sign of life, or its model answers no request."""

import asyncio

import pytest

from serving.errors import ServerUnavailable
from serving.hanging import ModelStuck, Pulse, ServerHangs

pytestmark = pytest.mark.anyio
WITHIN = 1.2  # seconds of each call; it is watched in parts of this


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def silent(within: float) -> None:
    await asyncio.sleep(within)
    raise asyncio.TimeoutError


async def lively(within: float) -> None:
    await asyncio.sleep(0)


async def answer(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "answer"


async def test_waits_for_a_slow_answer_of_a_living_server() -> None:
    assert await Pulse("url", lively).watch(answer(3 * WITHIN), WITHIN) == "answer"


async def test_an_answer_counts_even_without_signs_of_life() -> None:
    assert await Pulse("url", silent).watch(answer(0), WITHIN) == "answer"


async def test_a_short_deadline_says_nothing_about_the_server() -> None:
    assert await Pulse("url", silent).watch(answer(0.3), 0.2) == "answer"


async def test_a_call_to_a_server_that_hangs_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def call() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()

    pulse = Pulse("url", silent)
    with pytest.raises(ServerHangs):
        await pulse.watch(call(), WITHIN)
    await asyncio.wait_for(cancelled.wait(), 60)
    await pulse.close()


@pytest.mark.parametrize("within", [0.2, WITHIN])
async def test_gives_up_a_stuck_model_even_if_its_server_lives(within: float) -> None:
    with pytest.raises(ModelStuck):
        await Pulse("url", lively).watch(answer(3600), within, "model", patience=within / 2)


async def test_waits_for_a_model_that_answers_other_calls() -> None:
    pulse = Pulse("url", lively)
    watched = asyncio.create_task(pulse.watch(answer(3 * WITHIN), WITHIN, "model", patience=WITHIN))
    while not watched.done():
        await pulse.watch(answer(0.01), WITHIN, "model")
    assert await watched == "answer"


async def test_the_only_server_may_take_all_its_time() -> None:
    assert await Pulse("url", silent).watch(answer(2 * WITHIN), WITHIN, asks=False) == "answer"


async def test_a_call_that_its_connection_cancels_finds_the_server_unavailable() -> None:
    call = asyncio.create_task(asyncio.sleep(3600))
    asyncio.get_running_loop().call_later(0.01, call.cancel)
    with pytest.raises(ServerUnavailable, match="connection to url was closed"):
        await Pulse("url", lively).watch(call, WITHIN)


async def test_raises_the_error_of_the_call() -> None:
    async def call() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await Pulse("url", silent).watch(call(), WITHIN)


async def test_simultaneous_calls_share_one_probe() -> None:
    asked = 0

    async def ask(within: float) -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)

    pulse = Pulse("url", ask)
    assert await asyncio.gather(*(pulse.is_alive() for _ in range(20))) == [True] * 20
    assert asked == 1


async def test_probes_several_times_before_a_server_counts_as_hung() -> None:
    asked = 0

    async def late(within: float) -> None:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise asyncio.TimeoutError

    assert await Pulse("url", late).is_alive()
