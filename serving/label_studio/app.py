"""The routes of the ML backend, as Label Studio 1.23 asks them: its ml/api_connector.py and webhooks/utils.py."""

import asyncio
import base64
import contextlib
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from labelwise.errors import DataError, LabelwiseError
from labelwise.validation import first_refusal
from serving.errors import ServerUnavailable
from serving.gateway.access.exposure import CheckHost, RefuseForeignPages
from serving.label_studio.backend import Backend, PredictBody, SetupBody, TrainingFailed, WebhookBody

logger = logging.getLogger("labelwise.label_studio")

_MAX_BODY = 64 * 2**20  # bytes; Label Studio sends all tasks that were selected in one request

B = TypeVar("B", bound=BaseModel)


def create_app(backend: Backend, password: str | None, on_ready: Callable[[], None]) -> ASGIApp:
    """The application. With `password`, every request needs it, by HTTP's basic authentication with any user name."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        on_ready()
        yield
        await backend.close()

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "UP", "model_class": "labelwise"})

    async def versions(_: Request) -> Response:
        return JSONResponse(await backend.versions())

    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/versions", versions),
            _post("/setup", SetupBody, backend.setup),
            _post("/predict", PredictBody, backend.predict),
            _post("/webhook", WebhookBody, backend.webhook),
        ],
        exception_handlers={LabelwiseError: _answer_error},
        lifespan=lifespan,
    )
    polite = RefuseForeignPages(app, ())
    guarded = RequirePassword(polite, password) if password else CheckHost(polite, ())

    async def entry(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        try:
            await guarded(scope, receive, send)
        except asyncio.CancelledError:
            await _error(503, "The ML backend is shutting down.")(scope, receive, send)

    return entry


class RequirePassword:
    """Refuses requests without the password."""

    def __init__(self, app: ASGIApp, password: str) -> None:
        self._app, self._password = app, password.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_right(Request(scope).headers.get("authorization", "")):
            refusal = JSONResponse(
                {"error": "This ML backend needs its password, by basic authentication."},
                status_code=401,
                headers={"WWW-Authenticate": 'Basic realm="labelwise"'},
            )
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_right(self, header: str) -> bool:
        scheme, _, value = header.partition(" ")
        try:
            given = base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(given, self._password)


def _post(path: str, form: type[B], act: Callable[[B], Awaitable[dict[str, Any]]]) -> Route:
    async def answer(request: Request) -> Response:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > _MAX_BODY:
                return _error(413, f"The request is larger than {_MAX_BODY // 2**20} MiB: select fewer tasks.")
        try:
            return JSONResponse(await act(form.model_validate_json(bytes(body))))
        except ValidationError as error:
            return _error(422, f"This is not a request of Label Studio: {first_refusal(error)}.")

    return Route(path, answer, methods=["POST"])


async def _answer_error(request: Request, error: Exception) -> Response:
    logger.error("%s: %s", request.url.path, error)
    status = 503 if isinstance(error, ServerUnavailable) else 422 if isinstance(error, DataError) else 502
    more = {"taught": error.report.taught} if isinstance(error, TrainingFailed) else {}
    return _error(status, str(error), more)


def _error(status: int, reason: str, more: dict[str, Any] | None = None) -> Response:
    return JSONResponse({"error": reason, **(more or {})}, status_code=status)
