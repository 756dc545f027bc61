"""The gateway: create_app(settings, engine) builds the whole HTTP side, which does not know what engine it has."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastapi_swagger
from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from labelwise.version import VERSION
from serving.gateway.access.auth import RequireKey, needs_key
from serving.gateway.access.exposure import (
    CORS_OPTIONS,
    PAGE_HEADERS,
    CheckHost,
    RefuseForeignPages,
    is_loopback,
)
from serving.gateway.access.keys import KeyRing
from serving.gateway.feedback.service import FeedbackService
from serving.gateway.middleware import AnswerHead, Observe
from serving.gateway.observe.metrics import Metrics
from serving.gateway.problems import AnswerErrors
from serving.gateway.routes import ROUTES
from serving.gateway.routes.api_route import ApiRoute
from serving.gateway.routes.openapi import complete
from serving.gateway.service import TaggingService
from serving.inference import Engine
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.tracing import Traces

_PAGE = Path(__file__).parent.parent / "page"
_DESCRIPTION = """
Every answer has an `X-Request-ID`: yours, if you send one. `X-Request-Timeout: 2.5` allows 2.5 seconds for the work
after the complete upload; the server's own limit is the default and the maximum. Errors are
`application/problem+json` (RFC 9457) with a stable `code`. After a 429 or 503, `Retry-After` says in how many seconds
to try again.
"""
_SWAGGER = Path(fastapi_swagger.__file__).parent / "resources"


class _PageFiles(StaticFiles):
    """The page, its scripts and styles. A browser asks for each again and gets a 304, so they are of one release."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(PAGE_HEADERS)
        del response.headers["accept-ranges"]
        return response


class _Routes(Router):
    """starlette's router. It finds the route of a fixed path in a table before it tries the routes one by one."""

    def __init__(self, routes: Sequence[BaseRoute], **options: Any) -> None:
        super().__init__(routes, **options)
        ours = [route for route in routes if isinstance(route, ApiRoute)]
        for route in ours:
            route.allowed = sorted({method for same in ours if same.path == route.path for method in same.allowed})
        fixed = [route for route in ours if not route.param_convertors]
        self._fixed = {(method, route.path): route for route in fixed for method in route.methods or ()}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]
        route = self._fixed.get((scope["method"], scope["path"]))
        if route is None:
            return super().__call__(scope, receive, send)
        scope.update(router=self, route=route, endpoint=route.endpoint, path_params={})
        return route.handle(scope, receive, send)


class _Gateway(FastAPI):
    """FastAPI registers and describes the routes; a request passes the middleware, starlette's router and its route."""

    needs_key: Callable[[str], bool] | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]
        """Does as starlette. FastAPI's own `__call__` reads the environment for its telemetry in every request."""
        scope["app"] = self
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        return self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Leaves out FastAPI's exception handlers and exit stacks: AnswerErrors answers every error."""
        app: ASGIApp = _Routes(self.routes, redirect_slashes=False)  # a redirect would make clients send photos twice
        for middleware in reversed(self.user_middleware):
            app = middleware.cls(app, *middleware.args, **middleware.kwargs)
        return app

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = complete(super().openapi(), self.needs_key)
        return self.openapi_schema


def create_app(
    settings: Settings, engine: Engine, metrics: Metrics | None = None, traces: "Traces | None" = None
) -> FastAPI:
    """Returns the ASGI app. The caller starts and closes the engine, and closes the feedback.

    Raises LabelwiseError for a bad key file, or a store of corrections that cannot be used.
    """
    metrics = metrics or Metrics()
    app = _Gateway(
        title="labelwise",
        version=VERSION,
        summary="Tags photos with the labels a team trained.",
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": "."}],  # relative to the document: a proxy may serve it under a path
        routes=list(ROUTES),
        middleware=list(_middleware(settings, metrics, traces)),
    )
    app.state.service = service = TaggingService(settings, engine, metrics)
    app.state.feedback = None if settings.feedback is None else FeedbackService(service, settings.feedback)
    if settings.keys is not None:
        app.needs_key = partial(needs_key, public_metrics=settings.public_metrics)
    _add_pages(app)
    return app


def _middleware(settings: Settings, metrics: Metrics, traces: "Traces | None") -> Iterator[Middleware]:
    """What a request passes, from the outside in."""
    yield Middleware(Observe, metrics=metrics, only_problems=settings.log_requests == "problems", traces=traces)
    yield Middleware(RefuseForeignPages, origins=settings.cors_origins)
    if settings.allowed_hosts or (settings.keys is None and is_loopback(settings.host)):
        yield Middleware(CheckHost, names=settings.allowed_hosts)
    if settings.cors_origins:
        yield Middleware(CORSMiddleware, allow_origins=settings.cors_origins, **CORS_OPTIONS)
    yield Middleware(AnswerHead)
    yield Middleware(AnswerErrors)
    if settings.keys is not None:  # inside CORS: a browser's preflight request brings no key
        yield Middleware(RequireKey, keys=KeyRing(settings.keys), public_metrics=settings.public_metrics)


def _add_pages(app: FastAPI) -> None:
    """The page and the API's documentation; neither loads anything from another server."""
    files = _PageFiles(directory=_PAGE)
    app.router.route_class = ApiRoute

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return await files.get_response("docs.html", request.scope)

    app.mount("/page", files, "page")
    app.mount("/docs/assets", _PageFiles(directory=_SWAGGER), "docs-assets")
