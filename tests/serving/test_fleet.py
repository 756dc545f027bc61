"""Servers take turns, and the next one is asked if one does not answer."""

import asyncio
import time

import pytest

from serving.errors import (
    ServerBusy,
    ServerFailed,
    ServerTimeout,
    ServerUnavailable,
    ServingError,
    UnknownModel,
    WrongContract,
)
from serving.fleet import Fleet, Server
from serving.hanging import ModelStuck

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class LivelyLink:
    """Gives signs of life, and answers with its address or fails with `failure`."""

    def __init__(self, url: str, failure: ServingError | None = None) -> None:
        self.url, self._failure = url, failure
        self.closed = False

    async def give_sign(self, timeout: float) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        self.closed = True

    async def answer(self) -> str:
        if self._failure:
            raise self._failure
        return self.url


Servers = list[Server[LivelyLink]]


def fleet_of(*failures: ServingError | None) -> Fleet[Server[LivelyLink]]:
    links = [LivelyLink(str(place), failure) for place, failure in enumerate(failures)]
    return Fleet([Server(link) for link in links], watches_one=True)


async def asked(fleet: Fleet[Server[LivelyLink]], servers: Servers, within: float = 60) -> tuple[str, list[str]]:
    """The answer, and the servers that failed before."""
    failed: list[str] = []

    async def ask(server: Server[LivelyLink], seconds: float) -> str:
        return await server.link.answer()

    answer = await fleet.ask_each(
        servers, ask, time.monotonic() + within, lambda server, _: failed.append(server.link.url)
    )
    return answer, failed


async def test_each_call_begins_with_another_server() -> None:
    fleet = fleet_of(None, None, None)
    orders = ["".join(server.link.url for server in fleet.in_turn()) for _ in range(4)]
    assert orders == ["120", "201", "012", "120"]
    assert (await asked(fleet, fleet.in_turn())) == ("2", [])
    assert Fleet((), watches_one=True).in_turn() == []


@pytest.mark.parametrize(
    "failure",
    [
        ServerUnavailable("down"),
        ServerBusy("full"),
        ServerTimeout("late"),
        UnknownModel("none"),
        WrongContract("other"),
    ],
)
async def test_tries_the_next_server_after_a_failure_of_one_server(failure: ServingError) -> None:
    fleet = fleet_of(failure, None)
    assert await asked(fleet, list(fleet.servers)) == ("1", ["0"])


async def test_does_not_try_another_server_if_the_request_is_wrong() -> None:
    fleet = fleet_of(ServerFailed("no"), None)
    with pytest.raises(ServerFailed):
        await asked(fleet, list(fleet.servers))


async def test_a_timeout_at_the_deadline_ends_the_call() -> None:
    fleet = fleet_of(ServerTimeout("late"), None)
    with pytest.raises(ServerTimeout):
        await asked(fleet, list(fleet.servers), within=0)


@pytest.mark.parametrize(
    ("failures", "raised"),
    [
        ((UnknownModel("none"), ServerUnavailable("down")), ServerUnavailable),
        ((WrongContract("other"), UnknownModel("none")), WrongContract),
    ],
)
async def test_the_failure_that_may_pass_is_the_one_that_is_raised(
    failures: tuple[ServingError, ...], raised: type[ServingError]
) -> None:
    fleet = fleet_of(*failures)
    with pytest.raises(raised):
        await asked(fleet, list(fleet.servers))


async def test_raises_the_last_failure_if_no_server_can_be_asked() -> None:
    fleet = fleet_of(None, None)
    with pytest.raises(ServerUnavailable, match="0, 1 did not answer in time"):
        await asked(fleet, [])
    fleet.servers[1].leave_out(ServerUnavailable("1 is down"))
    with pytest.raises(ServerUnavailable, match="1 is down"):
        await asked(fleet, [])


async def test_keeps_half_of_the_time_for_the_next_server_if_a_model_is_stuck() -> None:
    fleet = fleet_of(None, None)
    stuck: list[ServingError] = []

    async def ask(server: Server[LivelyLink], seconds: float) -> str:
        if server.link.url == "0":
            await asyncio.sleep(3600)
        return await server.link.answer()

    deadline = time.monotonic() + 4
    answer = await fleet.ask_each(list(fleet.servers), ask, deadline, lambda _, error: stuck.append(error), model="m")
    assert answer == "1"
    assert [type(error) for error in stuck] == [ModelStuck]


async def test_the_last_server_gets_the_given_patience() -> None:
    fleet = fleet_of(None)

    async def ask(server: Server[LivelyLink], seconds: float) -> str:
        await asyncio.sleep(3600)
        return "never"

    with pytest.raises(ModelStuck, match="m at 0 has answered no request"):
        await fleet.ask_each(
            list(fleet.servers), ask, time.monotonic() + 3600, lambda *_: None, model="m", patience=0.1
        )


async def test_close_closes_every_link() -> None:
    fleet = fleet_of(None, None)
    await fleet.close()
    assert [server.link.closed for server in fleet.servers] == [True, True]
