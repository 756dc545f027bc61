"""Who may ask: with a key file, every address needs a key, except the few that are listed here."""

from typing import Any

from fastapi import FastAPI, Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.gateway.access.keys import KeyRing
from serving.gateway.problems import PROBLEM_TYPE, PROBLEMS, Problem, problem_response

# Open: probes, which cannot hold secrets, and what is the same in every installation. All else is closed, also what a
# later version adds: servers that list what a key protects have been found with routes that nobody listed.
_OPEN = frozenset({"/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"})
_OPEN_FOLDERS = ("/page/", "/docs/assets/")
_METRICS = "/metrics"


_MISSING = "This needs a key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
_UNAUTHORIZED = {
    "schema": {"$ref": "#/components/schemas/Problem"},
    "example": Problem(
        title=PROBLEMS["unauthorized"][1], status=401, detail=_MISSING, code="unauthorized", request_id="order-66"
    ).model_dump(),
}


class RequireKey:
    """Answers 401 to a request without a valid key; puts the key's name into the request's state, for the log."""

    def __init__(self, app: ASGIApp, keys: KeyRing, public_metrics: bool) -> None:
        self._app, self._keys = app, keys
        self._open = _OPEN | {_METRICS} if public_metrics else _OPEN

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open(scope["path"]):
            given = given_key(Headers(scope=scope))
            name = None if given is None else self._keys.name_of(given)
            if name is None:
                await _unauthorized(Request(scope), given is not None)(scope, receive, send)
                return
            scope.setdefault("state", {})["key_name"] = name
        await self._app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open or path.startswith(_OPEN_FOLDERS)


def given_key(headers: Headers) -> str | None:
    """The key of `Authorization: Bearer KEY` (RFC 6750) or `X-API-Key: KEY`; None where there is neither."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return headers.get("x-api-key")


def _unauthorized(request: Request, was_given: bool) -> Response:
    wrong = "This key is not valid here; it may have been revoked."
    response = problem_response(request, "unauthorized", wrong if was_given else _MISSING)
    response.headers["WWW-Authenticate"] = 'Bearer realm="labelwise"' + (', error="invalid_token"' * was_given)
    return response


def describe_keys(app: FastAPI, public_metrics: bool) -> None:
    """Put the keys, and the 401 of every address that needs one, into the app's OpenAPI document."""
    generate = app.openapi
    open_paths = _OPEN | {_METRICS} if public_metrics else _OPEN

    def openapi() -> dict[str, Any]:
        schema = generate()
        schema.setdefault("components", {})["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        for path, operations in schema["paths"].items():
            if path not in open_paths:
                for operation in operations.values():
                    operation["security"] = [{"bearer": []}, {"header": []}]
                    operation["responses"]["401"] = {
                        "description": "A valid key is needed (`unauthorized`)",
                        "content": {PROBLEM_TYPE: _UNAUTHORIZED},
                    }
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
