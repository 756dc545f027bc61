"""Several servers as one: taking turns, leaving out who is down, trying again until the deadline."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_before_delay, wait_random_exponential

from labelwise.spec import TaggerSpec
from serving.client.errors import (
    ClientClosed,
    ClientError,
    ServerBusy,
    ServerTimeout,
    ServerUnavailable,
    UnknownModel,
    WrongContract,
)

logger = logging.getLogger("labelwise.client")

_PAUSES = wait_random_exponential(multiplier=0.2, max=3)  # seconds between two rounds over all servers
_AS_GOOD_AS_OVER = 0.05  # seconds
_LEFT_OUT_FOR = 2.0  # seconds that a server which did not answer is only asked when no other does
_ONLY_THIS_SERVER = (ServerUnavailable, UnknownModel, WrongContract)  # another one may do it


class Link(Protocol):
    """The connection to one server."""

    url: str

    async def contract(self, version: int | None, timeout: float) -> TaggerSpec:
        """What that server says of the model; of `version` if it tells that too, else of the newest.

        ServerUnavailable, UnknownModel or WrongContract.
        """

    async def close(self) -> None:
        """Let go of the connection."""


L = TypeVar("L", bound=Link)
T = TypeVar("T")


class _Server(Generic[L]):
    def __init__(self, link: L) -> None:
        self.link = link
        self.known = False  # whether its contract was read since it was last down
        self.down_until = 0.0


class Servers(Generic[L]):
    """`links` serve the same model; `call` finds one that does it now."""

    def __init__(self, links: Sequence[L]) -> None:
        self._servers = [_Server(link) for link in links]
        self._next = 0
        self._closed = False
        self._contract: TaggerSpec | None = None

    @property
    def contract(self) -> TaggerSpec:
        if self._contract is None:
            raise ClientClosed("The client is not connected.")
        return self._contract

    async def connect(self, timeout: float) -> None:
        """Read the contract of whoever answers first; the others are held against it once they answer."""

        async def nothing(link: L, within: float) -> None:
            return None

        await self.call(nothing, timeout)

    async def call(self, ask: Callable[[L, float], Awaitable[T]], timeout: float) -> T:
        """`ask(link, seconds it has)` of a server that is up, again until `timeout` where it is ServerUnavailable."""
        deadline = time.monotonic() + timeout
        rounds = AsyncRetrying(
            retry=retry_if_exception_type(ServerUnavailable),
            wait=_PAUSES,
            stop=stop_before_delay(timeout),
            reraise=True,
        )
        return await rounds(self._round, ask, deadline)

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*(server.link.close() for server in self._servers))

    async def _round(self, ask: Callable[[L, float], Awaitable[T]], deadline: float) -> T:
        """Each server once, those that are up first."""
        failures: list[ClientError] = []
        for server in self._in_turn():
            if self._closed:
                raise ClientClosed("The client is closed.")
            try:
                return await self._ask(server, ask, deadline)
            except (*_ONLY_THIS_SERVER, ServerTimeout) as error:
                if isinstance(error, ServerTimeout) and time.monotonic() > deadline - _AS_GOOD_AS_OVER:
                    raise
                failures.append(error)
            except asyncio.CancelledError:
                if self._closed:  # gRPC cancels what runs on a channel that is closed
                    raise ClientClosed("The client was closed meanwhile.") from None
                raise
        # A server that is down may come back; one that serves something else is no help.
        raise next((failure for failure in failures if isinstance(failure, ServerUnavailable)), failures[0])

    def _in_turn(self) -> list[_Server[L]]:
        self._next += 1
        turn = [self._servers[(self._next + place) % len(self._servers)] for place in range(len(self._servers))]
        now = time.monotonic()
        return sorted(turn, key=lambda server: max(server.down_until - now, 0))  # stable: those up keep their turn

    async def _ask(self, server: _Server[L], ask: Callable[[L, float], Awaitable[T]], deadline: float) -> T:
        try:
            if not server.known:
                await self._compare(server, deadline)
            try:
                return await ask(server.link, self._share(deadline))
            except UnknownModel:  # perhaps it took a newer version meanwhile, which makes the better message
                await self._compare(server, deadline)
                raise
        except (*_ONLY_THIS_SERVER, ServerTimeout) as error:
            if not isinstance(error, ServerBusy):
                self._leave_out(server, error)
            raise

    def _share(self, deadline: float) -> float:
        """Seconds for one attempt. A server that hangs may take half of what is left while another could do it."""
        left = max(deadline - time.monotonic(), 0.001)
        others = sum(server.down_until <= time.monotonic() for server in self._servers) > 1
        return left / 2 if others else left

    def _leave_out(self, server: _Server[L], error: Exception) -> None:
        if len(self._servers) > 1 and server.down_until <= time.monotonic():
            logger.warning("left out for now: %s", error)
        server.known, server.down_until = False, time.monotonic() + _LEFT_OUT_FOR

    async def _compare(self, server: _Server[L], deadline: float) -> None:
        """Learn the contract, or hold the server's against what is known of the others."""
        known = self._contract.version if self._contract else None
        found = await server.link.contract(known, self._share(deadline))
        if self._contract is None:
            self._contract = found
        elif found != self._contract:
            same = found.version == self._contract.version
            what = (
                f"another version {found.version}" if same else f"version {found.version}, not {self._contract.version}"
            )
            raise WrongContract(
                f"{server.link.url} serves {found.name} {what} as at first; make a new client to use it."
            )
        server.known = True
