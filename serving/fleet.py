"""Several servers as one: taking turns, leaving out who is down, trying again until the deadline."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_before_delay, wait_random_exponential

from labelwise.spec import TaggerSpec
from serving.errors import (
    ClientClosed,
    ClientError,
    ServerBusy,
    ServerTimeout,
    ServerUnavailable,
    UnknownModel,
    WrongContract,
)
from serving.hanging import Pulse, ServerHangs

logger = logging.getLogger("labelwise.client")

_PAUSES = wait_random_exponential(multiplier=0.2, max=3)  # seconds between two rounds over all servers
_LEFT_OUT_FOR = (2.0, 60.0)  # seconds until a server that failed is looked at again: at first, doubled up to the last
_LOOK_WITHIN = 5.0  # seconds that such a look may take
_AS_GOOD_AS_OVER = 0.05  # seconds
_ONLY_THIS_SERVER = (ServerUnavailable, UnknownModel, WrongContract)  # another one may do it


class Link(Protocol):
    """The connection to one server."""

    url: str

    async def contract(self, version: int | None, timeout: float) -> TaggerSpec:
        """What that server says of the model; of `version` if it tells that too, else of the newest.

        ServerUnavailable, UnknownModel or WrongContract.
        """

    async def give_sign(self, timeout: float) -> None:
        """Asks for a sign of life, which may be an error. TimeoutError if the server says nothing in time."""

    async def close(self) -> None:
        """Let go of the connection."""


L = TypeVar("L", bound=Link)
T = TypeVar("T")


class _Server(Generic[L]):
    def __init__(self, link: L) -> None:
        self.link = link
        self.pulse = Pulse(link.give_sign)
        self.is_good = False  # it told the contract, and has not failed since
        self.failure: ClientError | None = None
        self.pause, self.left_out_until = _LEFT_OUT_FOR[0], 0.0
        self.look: asyncio.Task[None] | None = None  # whether it is good


class Servers(Generic[L]):
    """`links` serve the same model; `call` finds one that does it now.

    Requests only go to servers that are known to be good. The others are looked at beside that, so that no request
    waits for them.
    """

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
        """`ask(link, seconds it has)` of a good server, again until `timeout` where it is ServerUnavailable."""
        deadline = time.monotonic() + timeout
        rounds = AsyncRetrying(
            retry=retry_if_exception_type(ServerUnavailable),
            wait=_PAUSES,
            stop=stop_before_delay(timeout - _AS_GOOD_AS_OVER),  # a try of no time would hide what was the matter
            reraise=True,
        )
        return await rounds(self._round, ask, deadline)

    async def close(self) -> None:
        self._closed = True
        looks = [server.look for server in self._servers if server.look]
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
        await asyncio.gather(*(server.pulse.close() for server in self._servers))
        await asyncio.gather(*(server.link.close() for server in self._servers))

    async def _round(self, ask: Callable[[L, float], Awaitable[T]], deadline: float) -> T:
        """Each good server once."""
        if self._closed:
            raise ClientClosed("The client is closed.")
        failures: list[ClientError] = []
        for server in self._in_turn() or await self._found(deadline):
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
        raise self._most_hopeful(failures)

    def _in_turn(self) -> list[_Server[L]]:
        """Those that are good; the others are looked at again where it is time."""
        self._next += 1
        turn = [self._servers[(self._next + place) % len(self._servers)] for place in range(len(self._servers))]
        good = [server for server in turn if server.is_good]
        for server in turn:
            if good and not server.is_good and time.monotonic() >= server.left_out_until:
                self._look_at(server, _LOOK_WITHIN)
        return good

    async def _found(self, deadline: float) -> list[_Server[L]]:
        """Where none is good: the first that is after all. Raises what is the matter with them."""
        looks = {self._look_at(server, deadline - time.monotonic()) for server in self._servers}
        done = looks
        while done and looks and not any(server.is_good for server in self._servers):
            left = deadline + _AS_GOOD_AS_OVER - time.monotonic()  # so much longer that a look can say what it was
            done, looks = await asyncio.wait(looks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if self._closed:
            raise ClientClosed("The client was closed meanwhile.")
        if good := self._in_turn():
            return good
        raise self._most_hopeful([server.failure for server in self._servers if server.failure])

    async def _ask(self, server: _Server[L], ask: Callable[[L, float], Awaitable[T]], deadline: float) -> T:
        left = max(deadline - time.monotonic(), 0.001)
        # A server that lives and does not answer may take half of what is left while another could do it.
        call = ask(server.link, left / 2 if sum(other.is_good for other in self._servers) > 1 else left)
        try:
            return await (call if len(self._servers) == 1 else server.pulse.watch(call, left))
        except ServerHangs:
            hangs = ServerUnavailable(f"{server.link.url} does not answer: it hangs, and gives no sign of life.")
            self._leave_out(server, hangs)
            raise hangs from None
        except ServerBusy:
            raise
        except (*_ONLY_THIS_SERVER, ServerTimeout) as error:
            self._leave_out(server, error)
            if isinstance(error, UnknownModel):  # perhaps it took a newer version, which makes the better message
                await asyncio.wait([self._look_at(server, left)])
                raise server.failure or error from error
            raise

    def _most_hopeful(self, failures: Sequence[ClientError]) -> ClientError:
        """A server that is down may come back; one that serves something else is no help."""
        if not failures:
            urls = ", ".join(server.link.url for server in self._servers)
            return ServerUnavailable(f"{urls} did not answer in time.")
        return next((failure for failure in failures if isinstance(failure, ServerUnavailable)), failures[0])

    def _look_at(self, server: _Server[L], within: float) -> "asyncio.Task[None]":
        if server.look is None or server.look.done():
            server.look = asyncio.create_task(self._compare(server, within))
        return server.look

    async def _compare(self, server: _Server[L], within: float) -> None:
        """Learn the contract, or hold the server's against what is known of the others."""
        try:
            known = self._contract.version if self._contract else None
            found = await server.link.contract(known, max(within, 0.001))
            self._contract = self._contract or found
            if found != self._contract:
                raise _other_contract(server.link.url, found, self._contract)
        except ServerTimeout as error:
            self._leave_out(server, ServerUnavailable(str(error)))
        except ClientError as error:
            self._leave_out(server, error)
        else:
            server.is_good, server.failure, server.pause = True, None, _LEFT_OUT_FOR[0]

    def _leave_out(self, server: _Server[L], error: ClientError) -> None:
        if len(self._servers) > 1 and (server.failure is None or type(server.failure) is not type(error)):
            logger.warning("left out for now: %s", error)
        server.is_good, server.failure = False, error
        server.left_out_until = time.monotonic() + server.pause
        server.pause = min(2 * server.pause, _LEFT_OUT_FOR[1])


def _other_contract(url: str, found: TaggerSpec, first: TaggerSpec) -> WrongContract:
    same = found.version == first.version
    what = f"another version {found.version}" if same else f"version {found.version}, not {first.version}"
    return WrongContract(f"{url} serves {found.name} {what} as at first; make a new client to use it.")
