"""Fetches photos from URLs: off unless hosts are listed, and no way into the network behind the gateway.

The danger is server-side request forgery: a URL with an internal address, a name that resolves to one, a redirect to
one, or a name that resolves to another address the second time. So a name is resolved once, all its addresses must be
public, the connection goes to an address that was checked, and each redirect is checked again. Proxies from the
environment are not used, because behind a proxy none of this would hold.
"""

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import anyio
import httpcore

from labelwise.version import VERSION
from serving.gateway.problems import GatewayError

logger = logging.getLogger("labelwise.fetch")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 3
_MAX_URL = 2048
_HEADERS: dict[bytes | str, bytes | str] = {
    "User-Agent": f"labelwise/{VERSION}",
    "Accept": "image/*",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
_HOST_FAULTS = (OSError, UnicodeError, httpcore.NetworkError, httpcore.ProtocolError)
# Ranges that not every Python knows, and those with an IPv4 address inside that another router unpacks (6to4, Teredo).
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        ("192.0.0.0/24", "192.88.99.0/24", "::/96", "2001::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10"),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: IPAddress) -> bool:
    """Whether `address` belongs to the public Internet; an IPv4 address inside an IPv6 one is judged separately."""
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
    """What a URL asks for, with the port that it means."""

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
    """Fetches from the listed hosts: `name`, or `*.name` for every name below it; with `:port` if not 80 or 443.

    A photo has at most `max_bytes` bytes and takes at most `timeout` seconds, redirects included. `allows` judges every
    resolved address.
    """

    def __init__(
        self, hosts: tuple[str, ...], max_bytes: int, timeout: float, allows: Callable[[IPAddress], bool] = is_public
    ) -> None:
        self._hosts = tuple(urlsplit(f"//{host}") for host in hosts)
        self._max_bytes, self._timeout = max_bytes, timeout
        self._network, self._own_network = _CheckedNetwork(allows), _CheckedNetwork(lambda _: True)

    async def fetch(self, url: str, take_bytes: Callable[[int], None], own: Mapping[str, str] | None = None) -> bytes:
        """Returns the bytes at `url`.

        Calls `take_bytes` with the size of each piece that arrives. Raises GatewayError, as `take_bytes` may.
        With `own`, the operator has named the host of `url`: it need not be listed and may have any address, and the
        request has these headers. A redirect leads to an ordinary URL.
        """
        try:
            with anyio.fail_after(self._timeout):
                target = _parse(url) if own is not None else self._listed(_parse(url))
                for _ in range(_MAX_REDIRECTS + 1):
                    answer = await self._ask(target, take_bytes, own)
                    if isinstance(answer, bytes):
                        return answer
                    target, own = self._listed(_follow(target, answer)), None
        except TimeoutError:
            raise GatewayError("url_not_fetched", f"The host took more than {self._timeout:g} seconds.") from None
        except _HOST_FAULTS as error:
            logger.info("not fetched: %s: %s", type(error).__name__, error)  # not for the client: it maps our network
            raise GatewayError("url_not_fetched", "The host could not be reached, or does not speak HTTP.") from None
        raise GatewayError("url_not_fetched", f"There are more than {_MAX_REDIRECTS} redirects.")

    def _listed(self, target: _Target) -> _Target:
        if not any(_matches(host, target) for host in self._hosts):
            raise _not_allowed()
        return target

    async def _ask(
        self, target: _Target, take_bytes: Callable[[int], None], own: Mapping[str, str] | None
    ) -> bytes | str:
        """Returns the body, or the URL of a redirect."""
        network = self._network if own is None else self._own_network
        headers: dict[bytes | str, bytes | str] = {**_HEADERS, "Host": target.authority}
        headers.update(own or {})
        context = ssl.create_default_context() if target.scheme == "https" else None
        origin = httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port)
        url = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=target.path)
        async with (
            httpcore.AsyncHTTPConnection(origin, context, network_backend=network) as connection,
            connection.stream("GET", url, headers=headers) as response,
        ):
            if response.status in _REDIRECTS:
                return _location(response)
            if response.status != 200:
                raise GatewayError("url_not_fetched", f"The host answered with status {response.status}.")
            body = bytearray()
            async for piece in response.aiter_stream():
                take_bytes(len(piece))
                body += piece
                if len(body) > self._max_bytes:
                    raise GatewayError("body_too_large", f"The photo is larger than {self._max_bytes / 2**20:g} MiB.")
            return bytes(body)


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked: a name is resolved here, once."""

    def __init__(self, allows: Callable[[IPAddress], bool]) -> None:
        self._allows, self._tcp = allows, httpcore.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, **options: Any) -> httpcore.AsyncNetworkStream:  # type: ignore[override]
        addresses = await self._resolve(host, port)
        for number, address in enumerate(addresses, 1):
            try:
                return await self._tcp.connect_tcp(address, port, **options)
            except httpcore.ConnectError:
                if number == len(addresses):
                    raise
        raise OSError(f"{host} has no address")

    async def _resolve(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not all(self._allows(ipaddress.ip_address(address)) for address in addresses):
            logger.warning("%s resolves to an address that is not public: not fetched", host)
            raise _not_allowed()  # the same words as for an unlisted host, so clients cannot map the internal network
        return addresses


def _parse(url: str) -> _Target:
    """Parses the URL once, so the checked URL is the one used. Raises GatewayError if it is not a plain HTTP URL."""
    try:
        if len(url) > _MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise ValueError
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
        if parts.scheme not in _PORTS or not host or "@" in parts.netloc or "%" in host or port == 0:
            raise ValueError
    except ValueError:
        raise GatewayError("invalid_request", "url: this is not an address of the form https://host/path.") from None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(parts.scheme, host, port or _PORTS[parts.scheme], path)


def _follow(target: _Target, location: str) -> _Target:
    """Returns where a redirect leads. What is wrong with it is the host's fault, not the client's."""
    try:
        return _parse(urljoin(target.url, location))
    except (ValueError, GatewayError):
        raise GatewayError("url_not_fetched", "The host redirects to something that is not an http(s) URL.") from None


def _matches(listed: SplitResult, target: _Target) -> bool:
    name = listed.hostname or ""
    if target.port != (listed.port or _PORTS[target.scheme]):
        return False
    return target.host.endswith(name[1:]) if name.startswith("*.") else target.host == name


def _location(response: httpcore.Response) -> str:
    for name, value in response.headers:
        if name.lower() == b"location":
            return value.decode("latin-1")
    raise GatewayError("url_not_fetched", "The host redirects without saying where to.")


def _not_allowed() -> GatewayError:
    return GatewayError("url_not_allowed", "Photos are fetched from the hosts that this server lists, and no others.")
