"""Several servers as one: they take turns, and a call that one of them does not answer goes to the next."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from serving.errors import ServerTimeout, ServerUnavailable, ServingError, UnknownModel, WrongContract
from serving.hanging import Pulse

AS_GOOD_AS_OVER = 0.05  # seconds: so close to its deadline a call has had all its time
_AT_LEAST = 0.001  # seconds
_ANOTHER_MAY = (ServerUnavailable, ServerTimeout, UnknownModel, WrongContract)


class Link(Protocol):
    """The connection to one server."""

    @property
    def url(self) -> str: ...

    async def give_sign(self, timeout: float) -> None:
        """Asks for a sign of life, which may be an error. Raises TimeoutError if none comes in time."""

    async def close(self) -> None:
        """Lets go of the connection."""


L = TypeVar("L", bound=Link)
T = TypeVar("T")


class Server(Generic[L]):
    """One server of a fleet, and its known state."""

    def __init__(self, link: L) -> None:
        self.link = link
        self.pulse = Pulse(link.url, link.give_sign)
        self.is_good = False  # it answered as it should, and has not failed since
        self.failure: ServingError | None = None  # why it is not good, once it was asked

    def leave_out(self, failure: ServingError) -> None:
        self.is_good, self.failure = False, failure

    def take_back(self) -> None:
        self.is_good, self.failure = True, None

    async def close(self) -> None:
        self.is_good = False
        await self.pulse.close()
        await self.link.close()


S = TypeVar("S", bound="Server[Any]")


class Fleet(Generic[S]):
    """Servers that can all answer the same calls; to ask two of them does no harm.

    With `watches_one`, it also notices that its only server hangs.
    """

    def __init__(self, servers: Sequence[S], watches_one: bool) -> None:
        self.servers = servers
        self._watches = watches_one or len(servers) > 1
        self._turn = 0

    def in_turn(self) -> list[S]:
        """All servers; each call begins with another one."""
        self._turn = (self._turn + 1) % max(len(self.servers), 1)
        return [*self.servers[self._turn :], *self.servers[: self._turn]]

    async def ask_each(
        self,
        servers: Sequence[S],
        ask: Callable[[S, float], Awaitable[T]],
        deadline: float,
        on_failure: Callable[[S, ServingError], None],
        *,
        model: str = "",
        patience: float = float("inf"),
    ) -> T:
        """Returns the first answer that one of `servers` gives, one after the other, until time.monotonic `deadline`.

        `ask(server, seconds)` asks one. A `model` that answers no request is given up after half of the time left, and
        on the last server after `patience` seconds. Calls `on_failure` with each failure. Raises the one that is most
        likely to pass.
        """
        failures: list[ServingError] = []
        for place, server in enumerate(servers, start=1):
            left = max(deadline - time.monotonic(), _AT_LEAST)
            is_last = place == len(servers)
            try:
                call = ask(server, left)
                return await server.pulse.watch(call, left, model, patience if is_last else left / 2, self._watches)
            except _ANOTHER_MAY as error:
                on_failure(server, error)
                if isinstance(error, ServerTimeout) and time.monotonic() > deadline - AS_GOOD_AS_OVER:
                    raise
                failures.append(error)
        raise self.most_hopeful(failures)

    def most_hopeful(self, failures: Sequence[ServingError] = ()) -> ServingError:
        """Of `failures`, or the last ones: a server that is down may come back, one with another model is no help."""
        failures = failures or [server.failure for server in self.servers if server.failure]
        if not failures:
            urls = ", ".join(server.link.url for server in self.servers)
            return ServerUnavailable(f"{urls} did not answer in time.")
        return next((failure for failure in failures if isinstance(failure, ServerUnavailable)), failures[0])

    async def close(self) -> None:
        await asyncio.gather(*(server.close() for server in self.servers))
