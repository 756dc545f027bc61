"""The gateway: create_app(settings, engine) builds the whole HTTP side, and nothing here knows which engine it is."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastapi_swagger
from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from labelwise.version import VERSION
from serving.engines.base import Engine
from serving.gateway import routes
from serving.gateway.access.exposure import PAGE_HEADERS, add_protection
from serving.gateway.middleware import AnswerHead, Observe
from serving.gateway.observe.metrics import Metrics
from serving.gateway.problems import AnswerFaults, Problem, install_error_handlers
from serving.gateway.requests.query import TagQuery
from serving.gateway.routes import tag
from serving.gateway.service import TaggingService
from serving.gateway.shortcut import Shortcut
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.gateway.observe.tracing import Traces

_PAGE = Path(__file__).parent.parent / "page"
_DESCRIPTION = """
Every answer names its request in `X-Request-ID`; send your own there, and it is taken over. `X-Request-Timeout: 2.5`
gives the work 2.5 seconds, from the complete upload on; by default, and at most, it is the server's own limit.
Errors are `application/problem+json` (RFC 9457) with a stable `code`. After a 429 or 503, `Retry-After` says in
how many seconds to try again.
"""
_SWAGGER = Path(fastapi_swagger.__file__).parent / "resources"


class _PageFiles(StaticFiles):
    """The page, its scripts and styles, all of one age: a browser asks again each time, and gets a 304."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(PAGE_HEADERS)
        del response.headers["accept-ranges"]
        return response


class _Gateway(FastAPI):
    """FastAPI with every middleware outside of its own: what is answered by one of them costs nothing of the rest."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Past FastAPI's own, which asks the environment each time whether somebody set up its telemetry."""
        await Starlette.__call__(self, scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        added, self.user_middleware = self.user_middleware, [Middleware(AnswerFaults)]
        app = super().build_middleware_stack()
        for middleware in reversed(added):
            app = middleware.cls(app, *middleware.args, **middleware.kwargs)
        self.user_middleware = added
        return app

    def openapi(self) -> dict[str, Any]:
        """Without FastAPI's own form of a 422, which never occurs; it adds that to every address with a parameter."""
        document = super().openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                    del operation["responses"]["422"]
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Problem"] = Problem.model_json_schema()
        return document


def create_app(
    settings: Settings, engine: Engine, metrics: Metrics | None = None, traces: "Traces | None" = None
) -> FastAPI:
    """The ASGI app on a started engine; the caller starts and closes the engine."""
    app = _Gateway(
        title="labelwise",
        version=VERSION,
        summary="Tags photos with the labels a team trained.",
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": "."}],  # beside this document: a proxy may serve it under a path
        redirect_slashes=False,  # to send a photo twice helps nobody
    )
    metrics = metrics or Metrics()
    service = TaggingService(settings, engine, metrics)
    app.state.service = service
    app.add_middleware(AnswerHead)
    app.add_middleware(Shortcut, path="/v1/tag", endpoint=tag.tag, query_model=TagQuery)
    add_protection(app, settings)
    app.add_middleware(Observe, metrics=metrics, only_problems=settings.log_requests == "problems", traces=traces)
    install_error_handlers(app)
    app.include_router(routes.router)
    _add_pages(app)
    return app


def _add_pages(app: FastAPI) -> None:
    """The page and the API's documentation; both load nothing from elsewhere."""

    files = _PageFiles(directory=_PAGE)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return await files.get_response("docs.html", request.scope)

    app.mount("/page", files, "page")
    app.mount("/docs/assets", _PageFiles(directory=_SWAGGER), "docs-assets")
