"""Every failure a client can meet: one table of codes, and RFC 9457 problem+json as the only form."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labelwise.image import ImageError
from labelwise.validation import refusal_of
from serving.errors import ServerBusy, ServerTimeout, ServerUnavailable, ServingError, UnknownModel

logger = logging.getLogger("labelwise.gateway")

PROBLEM_TYPE = "application/problem+json"

# code -> status and title; the detail is said where the error arises.
PROBLEMS: dict[str, tuple[int, str]] = {
    "invalid_request": (422, "The request's parameters are not valid"),
    "malformed_body": (400, "The request's body cannot be read"),
    "malformed_request": (400, "This is not well-formed HTTP"),
    "unauthorized": (401, "A valid key is needed"),
    "cross_origin": (403, "Pages of other sites may not do this"),
    "not_found": (404, "There is nothing at this address"),
    "method_not_allowed": (405, "This address does not answer this method"),
    "unknown_model": (404, "There is no such model"),
    "header_timeout": (408, "The request took too long to arrive"),
    "upload_timeout": (408, "The upload took too long"),
    "body_too_large": (413, "The upload is too large"),
    "too_many_images": (413, "Too many images in one request"),
    "image_too_many_pixels": (413, "The image has too many pixels"),
    "content_type_unsupported": (415, "Not an accepted content type"),
    "transfer_coding_unsupported": (501, "Not an accepted transfer coding"),
    "image_format_unsupported": (415, "Not an accepted image format"),
    "image_empty": (422, "The image is empty"),
    "image_broken": (422, "The image cannot be decoded"),
    "image_too_complex": (422, "The image is too complex"),
    "image_too_small": (422, "The image is too small"),
    "image_not_base64": (422, "The image is not valid base64"),
    "output_not_offered": (422, "This model does not offer that"),
    "misdirected_request": (421, "This server does not answer for this host name"),
    "url_not_allowed": (422, "Photos are not fetched from this address"),
    "url_not_fetched": (422, "The photo could not be fetched"),
    "overloaded": (429, "Too many requests at once"),
    "headers_too_large": (431, "The request's headers are too large"),
    "client_closed": (499, "The client hung up"),
    "internal": (500, "Something went wrong here"),
    "decoder_failed": (500, "The image could not be decoded here"),
    "engine_failed": (500, "The model could not be run"),
    "engine_unavailable": (503, "The engine does not answer"),
    "shutting_down": (503, "The server is shutting down"),
    "too_many_connections": (503, "Too many connections at once"),
    "deadline_exceeded": (504, "The answer took too long"),
}

_ENGINE_CODES: dict[type[ServingError], tuple[str, str]] = {
    UnknownModel: ("unknown_model", "This model or version is not served here; see /v1/models."),
    ServerBusy: ("overloaded", "The engine's queue is full; try again shortly."),  # which is a ServerUnavailable
    ServerUnavailable: ("engine_unavailable", "The engine is down or starting; try again shortly."),
    ServerTimeout: ("deadline_exceeded", "The model did not answer in time; try again, or send less at once."),
}
_RETRY_AFTER = {"overloaded": "1", "engine_unavailable": "2", "shutting_down": "2", "too_many_connections": "1"}


class Problem(BaseModel):
    """RFC 9457 problem details; `code` is stable, `detail` is one sentence for a person."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str


class GatewayError(Exception):
    """An error of the gateway's own; `code` is a key of PROBLEMS."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


def problem_response(request: Request, code: str, detail: str) -> JSONResponse:
    """The answer for `code`; the request id is the one the middleware gave."""
    status, title = PROBLEMS[code]
    request_id = request.scope.get("state", {}).get("request_id", "")
    request.scope.setdefault("state", {})["problem"] = code
    problem = Problem(title=title, status=status, detail=detail, code=code, request_id=request_id)
    headers = {"Retry-After": _RETRY_AFTER[code]} if code in _RETRY_AFTER else None
    return JSONResponse(problem.model_dump(), status, headers, media_type=PROBLEM_TYPE)


def install_error_handlers(app: FastAPI) -> None:
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(Exception, _on_anything_else)


async def error_response(request: Request, error: BaseException) -> JSONResponse:
    """The answer to what an endpoint raised, where no framework looks for its handler."""
    handler = next((_HANDLERS[kind] for kind in type(error).__mro__ if kind in _HANDLERS), None)
    return _last_answer(request, error) if handler is None else await handler(request, error)


async def _on_gateway_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GatewayError)
    return problem_response(request, error.code, error.detail)


async def _on_image_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ImageError)
    return problem_response(request, error.code, str(error))


async def _on_engine_error(request: Request, error: Exception) -> JSONResponse:
    """What the engine said is for the log; the client gets our words."""
    logger.warning("request %s: %s: %s", request.state.request_id, type(error).__name__, error)
    for kind, (code, detail) in _ENGINE_CODES.items():
        if isinstance(error, kind):
            return problem_response(request, code, detail)
    return problem_response(request, "engine_failed", "The model failed on this input; the log here says why.")


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    refusal = refusal_of(error.errors()[0])
    field = ".".join(map(str, refusal.place[1:])) or "body"
    wrong = "there is no such parameter" if refusal.kind == "extra_forbidden" else refusal.reason
    return problem_response(request, "invalid_request", f"{field}: {wrong}.")


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Starlette's own: an unknown path, a wrong method, a malformed form."""
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "malformed_body" if error.status_code < 500 else "internal")
    response = problem_response(request, code, f"{request.method} {request.url.path}: {_phrase(error.status_code)}.")
    response.headers.update(error.headers or {})
    return response


_HANDLERS: dict[type, Callable[[Request, Any], Awaitable[JSONResponse]]] = {
    GatewayError: _on_gateway_error,
    ImageError: _on_image_error,
    ServingError: _on_engine_error,
    RequestValidationError: _on_validation_error,
    HTTPException: _on_http_exception,
}


async def _on_anything_else(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours outside the routes, such as in a middleware; Starlette logs the traceback after this answer."""
    logger.error("request %s failed: %s", request.scope.get("state", {}).get("request_id"), type(error).__name__)
    return _fault_response(request)


class AnswerFaults:
    """Answers what no handler took: a fault of ours with 500, and what the end of the server cut off with 503.

    Starlette's own place for faults is outside of every middleware: its answer would have no request id, and nobody
    would count it. uvicorn's answer to a cancelled request would be a plain 500.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except (Exception, asyncio.CancelledError) as error:
            if started:
                raise
            await _last_answer(Request(scope), error)(scope, receive, send)


def _last_answer(request: Request, error: BaseException) -> JSONResponse:
    request_id = request.scope.get("state", {}).get("request_id")
    if isinstance(error, asyncio.CancelledError):
        logger.warning("request %s was cut off by the end of the server", request_id)
        return problem_response(request, "shutting_down", "The server is shutting down; try again shortly.")
    logger.error("request %s failed", request_id, exc_info=error)
    return _fault_response(request)


def _fault_response(request: Request) -> JSONResponse:
    return problem_response(request, "internal", "The server failed; its log has the details under this request id.")


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase.lower()
