"""Whom the gateway answers: what it listens on, for which host names, for pages from where, and with which headers."""

import ipaddress
import socket
from functools import lru_cache

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labelwise.errors import LabelwiseError
from serving.gateway.access.auth import RequireKey
from serving.gateway.access.keys import KeyRing, read_keys
from serving.gateway.middleware import AnswerHead
from serving.gateway.problems import AnswerErrors, GatewayError, problem_response
from serving.gateway.requests.head import host_of
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
_HEADERS_OF_ALL = ((b"x-content-type-options", b"nosniff"), (b"cross-origin-resource-policy", b"same-origin"))
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_CORS_REQUEST_HEADERS = ("Authorization", "X-API-Key", "X-Request-ID", "X-Request-Timeout")
_CORS_ANSWER_HEADERS = (
    *("Retry-After", "X-Request-ID"),
    *("X-Labelwise-Labels", "X-Labelwise-Dimension", "X-Labelwise-Model", "X-Labelwise-Version", "X-Labelwise-Notes"),
)


def check_exposure(settings: Settings) -> None:
    """LabelwiseError for a broken key file, no address, or one that others reach without keys or the word for it."""
    if settings.keys is not None:
        read_keys(settings.keys)
    is_ours_alone = is_loopback(settings.host)
    if settings.keys is None and not settings.insecure_no_keys and not is_ours_alone:
        raise LabelwiseError(
            f"Others can reach {settings.host}: protect it with --keys FILE (`labelwise keys add NAME` makes one), "
            "or say --insecure-no-keys to serve whoever asks."
        )


def is_loopback(host: str) -> bool:
    """Whether nobody outside this machine can reach a server that listens on `host`, a name or an address.

    LabelwiseError where it is neither.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise LabelwiseError(
            f"Cannot listen on {host!r}: it is no name or address of this machine. Choose another with --host."
        ) from error
    addresses = {ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found}
    return all(address.is_loopback for address in addresses)


def add_protection(app: FastAPI, settings: Settings) -> None:
    """From the outside in: headers, foreign pages, host names, CORS, keys. LabelwiseError for a bad key file."""
    if settings.keys is not None:
        app.add_middleware(RequireKey, keys=KeyRing(settings.keys), public_metrics=settings.public_metrics)
    app.add_middleware(AnswerErrors)
    app.add_middleware(AnswerHead)
    if settings.cors_origins:
        # Outside the keys: a browser asks beforehand without one.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=_CORS_REQUEST_HEADERS,
            expose_headers=_CORS_ANSWER_HEADERS,
        )
    if settings.allowed_hosts or (settings.keys is None and is_loopback(settings.host)):
        app.add_middleware(CheckHost, names=settings.allowed_hosts)
    app.add_middleware(RefuseForeignPages, origins=settings.cors_origins)
    app.add_middleware(SecurityHeaders)


class SecurityHeaders:
    """Adds the headers that every answer has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS_OF_ALL]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class RefuseForeignPages:
    """Refuses what another site's page makes a browser send: without CORS the page cannot read the answer, but a plain
    form post would still cost the work. Browsers say which page it was in Sec-Fetch-Site; other clients send none."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in _SAFE_METHODS and self._is_foreign(Headers(scope=scope)):
            detail = "A page of another site may not use this server; its setting cors_origins adds sites."
            await problem_response(scope, GatewayError("cross_origin", detail))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_foreign(self, headers: Headers) -> bool:
        if headers.get("sec-fetch-site", "none") in ("none", "same-origin") or "*" in self._origins:
            return False
        return headers.get("origin") not in self._origins


class CheckHost:
    """Refuses host names it was not told of: a page whose name was re-pointed at this machine (DNS rebinding) would
    be of the same origin in the browser's eyes. Addresses pass, for nobody can re-point those; localhost too."""

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self._app = app
        self._names = {"localhost", *map(str.lower, names)}
        self._is_ours = lru_cache(256)(self._judge)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value for name, value in scope.get("headers", ()) if name == b"host"]
        if scope["type"] == "http" and not all(map(self._is_ours, hosts)):
            detail = "This server does not answer for this host name; its setting allowed_hosts adds names."
            await problem_response(scope, GatewayError("misdirected_request", detail))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _judge(self, header: bytes) -> bool:
        host = host_of(header)
        return host is not None and (host.rstrip(".") in self._names or _is_address(host))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
