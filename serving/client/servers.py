"""The servers of one client: those that serve one model with one contract, asked again until the deadline."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_before_delay, wait_random_exponential

from labelwise.spec import TaggerSpec
from serving.errors import (
    ClientClosed,
    ServerBusy,
    ServerTimeout,
    ServerUnavailable,
    ServingError,
    UnknownModel,
    WrongContract,
)
from serving.fleet import AS_GOOD_AS_OVER, Fleet, Link, Server

logger = logging.getLogger("labelwise.client")

_PAUSES = wait_random_exponential(multiplier=0.2, max=3)  # seconds between two rounds over all servers
_LEFT_OUT_FOR = (2.0, 60.0)  # seconds until a server that failed is looked at again: at first, doubled up to the last
_LOOK_WITHIN = 5.0  # seconds that such a look may take
_AT_LEAST = 0.001  # seconds

L = TypeVar("L", bound=Link)
T = TypeVar("T")


class _LookedAt(Server[L]):
    """A server that is looked at again some time after it failed."""

    def __init__(self, link: L) -> None:
        super().__init__(link)
        self.look: asyncio.Task[None] | None = None
        self._pause, self._left_out_until = _LEFT_OUT_FOR[0], 0.0

    @property
    def is_due(self) -> bool:
        return not self.is_good and time.monotonic() >= self._left_out_until

    def leave_out(self, failure: ServingError) -> None:
        super().leave_out(failure)
        self._left_out_until = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LEFT_OUT_FOR[1])

    def take_back(self) -> None:
        super().take_back()
        self._pause = _LEFT_OUT_FOR[0]

    async def close(self) -> None:
        if self.look:
            self.look.cancel()
            await asyncio.gather(self.look, return_exceptions=True)
        await super().close()


class Servers(Generic[L]):
    """The servers at `urls`, on one event loop.

    Requests only go to servers that are known to serve the contract. The others are looked at in the background, so
    that no request waits for them.
    """

    def __init__(self, urls: Sequence[str], connect_timeout: float) -> None:
        self._urls, self._connect_timeout = urls, connect_timeout
        self._fleet: Fleet[_LookedAt[L]] = Fleet((), watches_one=False)
        self._contract: TaggerSpec | None = None
        self._closed = False

    def link_to(self, url: str) -> L:
        """Opens the connection to one server."""
        raise NotImplementedError

    async def contract_at(self, link: L, version: int | None, timeout: float) -> TaggerSpec:
        """Returns the contract of `version` if that server tells it, otherwise of the newest version.

        Raises ServerUnavailable, UnknownModel or WrongContract.
        """
        raise NotImplementedError

    @property
    def spec(self) -> TaggerSpec:
        if self._contract is None:
            raise ClientClosed("The client is not connected.")
        return self._contract

    async def connect(self) -> None:
        """Reads the contract of the server that answers first. Other servers have to have the same."""
        self._contract, self._closed = None, False
        self._fleet = Fleet([_LookedAt(self.link_to(url)) for url in self._urls], watches_one=False)
        try:
            await self.call(lambda link, within: asyncio.sleep(0), self._connect_timeout)  # asks for the contract only
        except BaseException:
            await self.close()
            raise

    async def call(self, ask: Callable[[L, float], Awaitable[T]], timeout: float) -> T:
        """Returns what `ask(link, seconds)` returns for a good server; asks again while it raises ServerUnavailable."""
        deadline = time.monotonic() + timeout
        rounds = AsyncRetrying(
            retry=retry_if_exception_type(ServerUnavailable),
            wait=_PAUSES,
            stop=stop_before_delay(timeout - AS_GOOD_AS_OVER),  # a try without time would hide the reason
            reraise=True,
        )
        return await rounds(self._round, ask, deadline)

    async def close(self) -> None:
        """Lets go of the connections. Safe to call twice."""
        self._closed = True
        await self._fleet.close()

    async def _round(self, ask: Callable[[L, float], Awaitable[T]], deadline: float) -> T:
        """Asks each good server once."""

        async def ask_one(server: _LookedAt[L], within: float) -> T:
            try:
                return await ask(server.link, within)
            except UnknownModel as error:  # perhaps it serves a newer version, which makes the better message
                await asyncio.wait([self._look_at(server, within)])
                raise server.failure or error from error

        self._require_open()
        servers = self._good() or await self._found(deadline)
        try:
            return await self._fleet.ask_each(servers, ask_one, deadline, self._on_failure)
        except ServerUnavailable:
            self._require_open()
            raise

    def _require_open(self) -> None:
        if self._closed:
            raise ClientClosed("The client is closed.")

    def _good(self) -> list[_LookedAt[L]]:
        """In turn. Looks again at the others when it is time."""
        servers = self._fleet.in_turn()
        good = [server for server in servers if server.is_good]
        if good:
            for server in servers:
                if server.is_due:
                    self._look_at(server, _LOOK_WITHIN)
        return good

    async def _found(self, deadline: float) -> list[_LookedAt[L]]:
        """Looks at all servers until one is good. Raises why none is."""
        servers = self._fleet.servers
        looks = {self._look_at(server, deadline - time.monotonic()) for server in servers}
        done = looks
        while done and looks and not any(server.is_good for server in servers):
            left = (
                deadline + AS_GOOD_AS_OVER - time.monotonic()
            )  # a little longer, so that a look can say what is wrong
            done, looks = await asyncio.wait(looks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        self._require_open()
        if good := self._good():
            return good
        raise self._fleet.most_hopeful()

    def _look_at(self, server: _LookedAt[L], within: float) -> "asyncio.Task[None]":
        if server.look is None or server.look.done():
            server.look = asyncio.create_task(self._compare(server, within))
        return server.look

    async def _compare(self, server: _LookedAt[L], within: float) -> None:
        """Learns the contract, or compares the server's with the one that is known."""
        try:
            known = self._contract.version if self._contract else None
            found = await self.contract_at(server.link, known, max(within, _AT_LEAST))
            self._contract = self._contract or found
            if found != self._contract:
                raise _other_contract(server.link.url, found, self._contract)
        except ServerTimeout as error:
            self._on_failure(server, ServerUnavailable(str(error)))
        except ServingError as error:
            self._on_failure(server, error)
        else:
            server.take_back()

    def _on_failure(self, server: _LookedAt[L], error: ServingError) -> None:
        if isinstance(error, ServerBusy):
            return
        if len(self._urls) > 1 and type(server.failure) is not type(error):
            logger.warning("left out for now: %s", error)
        server.leave_out(error)


def _other_contract(url: str, found: TaggerSpec, first: TaggerSpec) -> WrongContract:
    same = found.version == first.version
    what = f"another version {found.version}" if same else f"version {found.version}, not {first.version}"
    return WrongContract(f"{url} serves {found.name} {what} as at first; make a new client to use it.")
