"""The gateway: create_app(settings, engine) builds the whole HTTP side, and nothing here knows which engine it is."""

from pathlib import Path
from typing import Any

import fastapi_swagger
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

from labelwise import __version__
from serving import routes
from serving.engines.base import Engine
from serving.errors import install_error_handlers
from serving.middleware import Observe
from serving.service import TaggingService
from serving.settings import Settings

_PAGE = Path(__file__).parent / "page"
_SWAGGER = Path(fastapi_swagger.__file__).parent / "resources"
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class _PageFiles(StaticFiles):
    """The page's scripts and styles, never older than the page: a browser asks again each time, and gets a 304."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_PAGE_HEADERS)
        return response


def create_app(settings: Settings, engine: Engine) -> FastAPI:
    """The ASGI app on a started engine; the caller starts and closes the engine."""
    app = FastAPI(
        title="labelwise",
        version=__version__,
        summary="Tags photos with the labels a team trained.",
        docs_url=None,
        redoc_url=None,
    )
    service = TaggingService(settings, engine)
    app.state.service = service
    app.add_middleware(Observe, metrics=service.metrics)
    install_error_handlers(app)
    app.include_router(routes.router)
    _add_pages(app)
    return app


def _add_pages(app: FastAPI) -> None:
    """The page and the API's documentation; both load nothing from elsewhere."""

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(_PAGE / "index.html", headers=_PAGE_HEADERS)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="labelwise: the API",
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon-32x32.png",
        )

    app.mount("/page", _PageFiles(directory=_PAGE), "page")
    app.mount("/docs/assets", StaticFiles(directory=_SWAGGER), "docs-assets")
