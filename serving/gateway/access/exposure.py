"""Who can reach the gateway: the address it listens on, its host names, pages of other sites, and headers."""

import ipaddress
import socket
from collections.abc import Awaitable
from functools import lru_cache
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from labelwise.errors import LabelwiseError
from serving.gateway.access.keys import read_keys
from serving.gateway.problems import GatewayError, answer_problem
from serving.gateway.requests.head import Headers, all_values, headers_of, host_of
from serving.settings import Settings

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
HEADERS_OF_ALL = ((b"x-content-type-options", b"nosniff"), (b"cross-origin-resource-policy", b"same-origin"))
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CORS_OPTIONS: dict[str, Any] = {
    "allow_methods": ("GET", "POST", "DELETE"),
    "allow_headers": ("Authorization", "X-API-Key", "Idempotency-Key", "X-Request-ID", "X-Request-Timeout"),
    "expose_headers": (
        *("Retry-After", "X-Request-ID", "X-Labelwise-Labels", "X-Labelwise-Dimension"),
        *("X-Labelwise-Model", "X-Labelwise-Version", "X-Labelwise-Notes"),
    ),
}


def check_exposure(settings: Settings) -> None:
    """Raises LabelwiseError for a broken key file, an unknown address, or one that others reach without a key.

    The setting insecure_no_keys allows the last, but nobody teaches without a key from another machine.
    """
    if settings.keys is not None:
        read_keys(settings.keys)
    is_ours_alone = is_loopback(settings.host)
    if settings.keys is None and not settings.insecure_no_keys and not is_ours_alone:
        raise LabelwiseError(
            f"Others can reach {settings.host}: protect it with --keys FILE (`labelwise keys add NAME` makes one), "
            "or add --insecure-no-keys to serve everyone."
        )
    if settings.teach and settings.keys is None and not is_ours_alone:
        raise LabelwiseError(
            f"Others can reach {settings.host} and could teach without a key: add --keys FILE (`labelwise keys add "
            "NAME --may teach` makes one), or leave out --teach."
        )


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach a server that listens on `host`, a name or an address.

    Raises LabelwiseError if it is neither.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise LabelwiseError(
            f"Cannot listen on {host!r}: it is not a name or address of this machine. Choose another with --host."
        ) from error
    addresses = {ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found}
    return all(address.is_loopback for address in addresses)


class RefuseForeignPages:
    """Refuses requests that a page of another site makes a browser send.

    Without CORS such a page cannot read the answer, but a plain form post would still cost the work, and store
    corrections. Browsers say in Sec-Fetch-Site what sends a request, or over plain HTTP to another machine in Origin
    only; other clients send neither.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self._app, self._origins = app, origins

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["method"] not in _SAFE_METHODS and self._is_foreign(headers_of(scope)):
            detail = "A page of another site may not use this server; its setting cors_origins adds sites."
            return answer_problem(scope, send, GatewayError("cross_origin", detail))
        return self._app(scope, receive, send)

    def _is_foreign(self, headers: Headers) -> bool:
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin", b"")
        if site is None:
            # A proxy may replace Host. No page can make a browser send X-Forwarded-Host without asking first.
            hosts = (headers.get(b"host"), headers.get(b"x-forwarded-host"))
            is_ours = not origin or origin.rpartition(b"//")[2].lower() in hosts
        else:
            is_ours = site in (b"none", b"same-origin")
        return not is_ours and "*" not in self._origins and origin.decode("latin-1") not in self._origins


class CheckHost:
    """Refuses unknown host names, against DNS rebinding: a page whose name is made to mean this machine has, for the
    browser, the same origin. Addresses and localhost pass, because no attacker decides what they mean."""

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self._app = app
        self._names = {"localhost", *map(str.lower, names)}
        self._is_ours = lru_cache(256)(self._judge)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if not all(map(self._is_ours, all_values(scope, b"host"))):
            detail = "This server does not answer for this host name; its setting allowed_hosts adds names."
            return answer_problem(scope, send, GatewayError("misdirected_request", detail))
        return self._app(scope, receive, send)

    def _judge(self, header: bytes) -> bool:
        host = host_of(header)
        return host is not None and (host.rstrip(".") in self._names or _is_address(host))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
