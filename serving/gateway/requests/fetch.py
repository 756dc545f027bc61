"""Photos fetched from a URL: off unless hosts are listed, and built so that nobody reaches the network behind it.

The dangers are those of server-side request forgery: an address of the inside, a name that resolves to one, a redirect
to one, and a name that resolves to another address the second time. So a name is resolved once, every address of it has
to be a public one, the connection goes to an address that was checked, and each redirect starts anew. Proxies of the
environment are not used: behind one, none of this would hold.
"""

import asyncio
import contextlib
import ipaddress
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

import anyio
import h11

from labelwise.version import VERSION
from serving.gateway.problems import GatewayError
from serving.settings import Settings

logger = logging.getLogger("labelwise.fetch")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 3
_MAX_URL = 2048
_MAX_HEAD = 32 * 2**10
_CHUNK = 64 * 2**10
_CLIENT_FAULTS = (OSError, ssl.SSLError, h11.RemoteProtocolError, UnicodeError)
# Ranges that not every Python knows, and those with an IPv4 address inside which another router unpacks (6to4, Teredo).
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        ("192.0.0.0/24", "192.88.99.0/24", "::/96", "2001::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10"),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: IPAddress) -> bool:
    """Whether `address` is of the public Internet; an IPv4 address inside an IPv6 one is judged as itself."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


@dataclass(frozen=True)
class _Target:
    """One address to ask: what a URL says, with the port it means."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


class Fetcher:
    """Fetches from listed hosts: `name`, or `*.name` for all below it; with `:port` for others than 80 and 443.

    `max_bytes` is of the photo, `timeout` in seconds for all of it. `allows` judges every resolved address.
    """

    def __init__(
        self, hosts: tuple[str, ...], max_bytes: int, timeout: float, allows: Callable[[IPAddress], bool] = is_public
    ) -> None:
        self._hosts = tuple(urlsplit(f"//{host}") for host in hosts)
        self._max_bytes, self._timeout, self._allows = max_bytes, timeout, allows

    @classmethod
    def of(cls, settings: Settings) -> "Fetcher | None":
        """None where fetching is off, as it is by default."""
        return cls(settings.fetch_hosts, settings.max_body, settings.fetch_timeout) if settings.fetch_hosts else None

    async def photo_of(self, body: bytes, take_bytes: Callable[[int], None]) -> bytes:
        """The photo that the JSON body {"url": …} names. Raises GatewayError, as `take_bytes` may, told what comes."""
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            raise GatewayError("malformed_body", 'The body is not JSON; expected {"url": "https://…"}.') from None
        if not isinstance(asked, dict) or set(asked) != {"url"} or not isinstance(asked["url"], str):
            raise GatewayError("invalid_request", 'The body must be {"url": "https://…"} and nothing else.')
        return await self.fetch(asked["url"], take_bytes)

    async def fetch(self, url: str, take_bytes: Callable[[int], None] = lambda count: None) -> bytes:
        """The bytes at `url`. Raises as `photo_of`."""
        try:
            with anyio.fail_after(self._timeout):
                target = self._listed(_parse(url))
                for _ in range(_MAX_REDIRECTS + 1):
                    answer = await self._ask(target, take_bytes)
                    if isinstance(answer, bytes):
                        return answer
                    target = self._listed(_follow(target, answer))
        except TimeoutError:
            raise GatewayError("url_not_fetched", f"The host took more than {self._timeout:g} seconds.") from None
        except _CLIENT_FAULTS as error:
            logger.info("not fetched: %s: %s", type(error).__name__, error)  # what it tells of networks is not theirs
            raise GatewayError("url_not_fetched", "The host could not be reached, or does not speak HTTP.") from None
        raise GatewayError("url_not_fetched", f"There are more than {_MAX_REDIRECTS} redirects.")

    def _listed(self, target: _Target) -> _Target:
        if not any(_matches(host, target) for host in self._hosts):
            raise _not_allowed()
        return target

    async def _ask(self, target: _Target, take_bytes: Callable[[int], None]) -> bytes | str:
        """The body, or where it redirects to."""
        async with self._connected(target) as (reader, writer):
            parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
            writer.write(parser.send(_request(target)) or b"")
            writer.write(parser.send(h11.EndOfMessage()) or b"")
            await writer.drain()
            body = bytearray()
            while not isinstance(event := await _next_event(parser, reader), h11.EndOfMessage):
                if isinstance(event, h11.Response) and event.status_code in _REDIRECTS:
                    return _location(event)
                if isinstance(event, h11.Response) and event.status_code != 200:
                    raise GatewayError("url_not_fetched", f"The host answered with status {event.status_code}.")
                if isinstance(event, h11.Data):
                    take_bytes(len(event.data))
                    body += event.data
                if isinstance(event, h11.ConnectionClosed):
                    raise h11.RemoteProtocolError("it ended early")
                if len(body) > self._max_bytes:
                    raise GatewayError("body_too_large", f"The photo is larger than {self._max_bytes / 2**20:g} MiB.")
            return bytes(body)

    @contextlib.asynccontextmanager
    async def _connected(self, target: _Target) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connected to an address that was checked: the name is not resolved again."""
        addresses = await self._resolve(target)
        context = ssl.create_default_context() if target.scheme == "https" else None
        name = target.host if context else None
        for number, address in enumerate(addresses, 1):
            try:
                reader, writer = await asyncio.open_connection(address, target.port, ssl=context, server_hostname=name)
                break
            except OSError:
                if number == len(addresses):
                    raise
        try:
            yield reader, writer
        finally:
            writer.transport.abort()  # nothing is left to say, and a polite end may take long

    async def _resolve(self, target: _Target) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not all(self._allows(ipaddress.ip_address(address)) for address in addresses):
            logger.warning("%s resolves to an address that is not public: not fetched", target.host)
            raise _not_allowed()  # the same words as for a host that is not listed: the inside is not to be mapped
        return addresses


def _parse(url: str) -> _Target:
    """The one reading of the URL: what is checked is what is used. GatewayError for what is no plain HTTP URL."""
    try:
        if len(url) > _MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise ValueError
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
        if parts.scheme not in _PORTS or not host or "@" in parts.netloc or "%" in host or port == 0:
            raise ValueError
    except ValueError:
        raise GatewayError("invalid_request", "url: this is no address of the form https://host/path.") from None
    return _Target(parts.scheme, host, port or _PORTS[parts.scheme], _path(parts))


def _follow(target: _Target, location: str) -> _Target:
    """Where a redirect leads. Its faults are the host's, not the client's."""
    try:
        return _parse(urljoin(target.url, location))
    except (ValueError, GatewayError):
        raise GatewayError("url_not_fetched", "The host redirects to something that is not an http(s) URL.") from None


def _path(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _matches(listed: SplitResult, target: _Target) -> bool:
    name = listed.hostname or ""
    if target.port != (listed.port or _PORTS[target.scheme]):
        return False
    return target.host.endswith(name[1:]) if name.startswith("*.") else target.host == name


def _request(target: _Target) -> h11.Request:
    headers = [
        ("Host", target.authority),
        ("User-Agent", f"labelwise/{VERSION}"),
        ("Accept", "image/*"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]
    return h11.Request(method="GET", target=target.path, headers=headers)


async def _next_event(parser: h11.Connection, reader: asyncio.StreamReader) -> h11.Event:
    while (event := parser.next_event()) is h11.NEED_DATA:
        parser.receive_data(await reader.read(_CHUNK))
    if not isinstance(event, h11.Event):
        raise h11.RemoteProtocolError("it went on after its end")
    return event


def _location(response: h11.Response) -> str:
    for name, value in response.headers:
        if name == b"location":
            return str(value, "latin-1")
    raise GatewayError("url_not_fetched", "The host redirects without saying where to.")


def _not_allowed() -> GatewayError:
    return GatewayError("url_not_allowed", "Photos are fetched from the hosts that this server lists, and no others.")
