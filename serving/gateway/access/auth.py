"""API keys: with a key file, every address needs a key, except the few that are listed here."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.gateway.access.keys import Key, KeyRing
from serving.gateway.problems import GatewayError

# Probes, which cannot hold secrets, and what is the same in every installation. Everything else is closed, also what a
# later version adds: servers that list what needs a key were found with routes missing from the list.
_OPEN = frozenset({"/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"})
_OPEN_FOLDERS = ("/page/", "/docs/assets/")
_METRICS = "/metrics"
_CHALLENGE = 'Bearer realm="labelwise"'


NO_KEY = "This needs a key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
_WRONG_KEY = "This key is not valid here; it may have been revoked."


def needs_key(path: str, public_metrics: bool) -> bool:
    """Whether this address is closed to requests without a valid key."""
    return not (path in _OPEN or path.startswith(_OPEN_FOLDERS) or (public_metrics and path == _METRICS))


class RequireKey:
    """Refuses requests without a valid key. The key's name, for the log, and its scopes go into the request's state."""

    def __init__(self, app: ASGIApp, keys: KeyRing, public_metrics: bool) -> None:
        self._app, self._keys, self._public_metrics = app, keys, public_metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if needs_key(scope["path"], self._public_metrics):
            key = self._key(given_key(Headers(scope=scope)))
            scope.setdefault("state", {}).update(key_name=key.name, key_may=key.may)
        await self._app(scope, receive, send)

    def _key(self, given: str | None) -> Key:
        if given is None:
            raise GatewayError("unauthorized", NO_KEY, {"WWW-Authenticate": _CHALLENGE})
        key = self._keys.find(given)
        if key is None:
            raise GatewayError("unauthorized", _WRONG_KEY, {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'})
        return key


def given_key(headers: Headers) -> str | None:
    """The key of `Authorization: Bearer KEY` (RFC 6750) or `X-API-Key: KEY`; None if neither is there."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return headers.get("x-api-key")
