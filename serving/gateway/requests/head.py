"""Checks a request's head before anything acts on it, RFC 9112, sections 3.2 and 6.1; and finds its headers."""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

from starlette.types import Scope

Header = tuple[bytes, bytes]
Headers = dict[bytes, bytes]  # name in lower case -> its first value

_KEY = "labelwise.headers"

# uri-host [":" port] of RFC 3986; `ipaddress` checks what is inside brackets.
_AUTHORITY = re.compile(rb"(?:\[(?P<ipv6>[^\]]+)\]|(?P<name>[A-Za-z0-9._~!$&'()*+,;=%-]*))(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://(?P<authority>[^/?#]+)", re.IGNORECASE)


@lru_cache(256)
def host_of(authority: bytes) -> str | None:
    """Returns the host in `authority`, such as `localhost:8000`: a name in lower case, or an address without brackets.

    Returns None if it is malformed.
    """
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    if match["ipv6"] is None:
        return str(match["name"], "ascii").lower()
    try:
        return str(ipaddress.IPv6Address(str(match["ipv6"], "ascii")))
    except ValueError:  # UnicodeDecodeError is one
        return None


def headers_of(scope: Scope) -> Headers:
    """Returns the headers of a request, read once per request: starlette's Headers search the list at each access."""
    try:
        found: Headers = scope[_KEY]
    except KeyError:
        found = scope[_KEY] = dict(reversed(scope["headers"]))
    return found


def all_values(scope: Scope, name: bytes) -> Sequence[bytes]:
    """Returns every value of a header that may be sent twice."""
    found = headers_of(scope)
    return _all_values(scope["headers"], found, name)


def _all_values(headers: Sequence[Header], found: Headers, name: bytes) -> Sequence[bytes]:
    if name not in found:
        return ()
    if len(found) == len(headers):  # as nearly always: no header comes twice
        return (found[name],)
    return [value for key, value in headers if key == name]


class HeadRefused(Exception):
    """The head has the problem `code`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def check_head(version: str, headers: Sequence[Header]) -> bool:
    """Checks the head of an HTTP/`version` request, and returns whether its body is chunked. Raises HeadRefused."""
    if version not in ("1.0", "1.1"):  # the parser takes 0.9 and 2.0 too, which have no such heads
        raise HeadRefused("malformed_request")
    found = dict(headers)
    hosts = _all_values(headers, found, b"host")
    if len(hosts) > 1 or (not hosts and version != "1.0") or (hosts and host_of(hosts[0]) is None):
        raise HeadRefused("malformed_request")
    codings = _all_values(headers, found, b"transfer-encoding")
    if not codings:
        return False
    names = [name.strip().lower() for name in b",".join(codings).split(b",")]
    if version == "1.0" or names.count(b"chunked") > 1:
        raise HeadRefused("malformed_request")
    if names != [b"chunked"]:
        raise HeadRefused("transfer_coding_unsupported")
    return True


def resolve_target(method: bytes, target: bytes, headers: Sequence[Header]) -> tuple[bytes, Sequence[Header]]:
    """Returns the path with its query, and `headers` with the host that an absolute-form `target` names.

    That host overrides the Host header. Raises HeadRefused if the target is neither a path, nor an http(s) URL with a
    host, nor the `*` of an OPTIONS request.
    """
    if target.startswith(b"/") or (method, target) == (b"OPTIONS", b"*"):
        return target, headers
    match = _ABSOLUTE.match(target)
    if match is None or host_of(match["authority"]) in (None, ""):
        raise HeadRefused("malformed_request")
    rest = target[match.end() :]
    path = rest if rest.startswith(b"/") else b"/" + rest
    return path, [(b"host", match["authority"]), *(header for header in headers if header[0] != b"host")]
