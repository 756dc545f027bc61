"""Every error that a client can get: one table of codes, and RFC 9457 problem+json as the only form."""

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus

from pydantic import BaseModel
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from labelwise.image import ImageError
from serving.errors import ServerBusy, ServerTimeout, ServerUnavailable, ServingError, UnknownModel

logger = logging.getLogger("labelwise.gateway")

PROBLEM_TYPE = "application/problem+json"
_PROBLEM_HEADER = (b"content-type", PROBLEM_TYPE.encode())

# code -> status and title; the place that raises the error gives the detail.
PROBLEMS: dict[str, tuple[int, str]] = {
    "invalid_request": (422, "The request's parameters are not valid"),
    "malformed_body": (400, "The request's body cannot be read"),
    "malformed_request": (400, "This is not well-formed HTTP"),
    "unauthorized": (401, "A valid key is needed"),
    "forbidden": (403, "This is not allowed here"),
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
    "not_teachable": (422, "This model cannot be taught"),
    "lesson_refused": (422, "This lesson cannot be given"),
    "output_not_offered": (422, "This model does not offer that"),
    "misdirected_request": (421, "This server does not answer for this host name"),
    "url_not_allowed": (422, "Photos are not fetched from this address"),
    "url_not_fetched": (422, "The photo could not be fetched"),
    "overloaded": (429, "Too many requests at once"),
    "headers_too_large": (431, "The request's headers are too large"),
    "client_closed": (499, "The client hung up"),
    "internal": (500, "Something went wrong here"),
    "lesson_failed": (500, "The lesson failed here"),
    "decoder_failed": (500, "The image could not be decoded here"),
    "engine_failed": (500, "The model could not be run"),
    "engine_unavailable": (503, "The engine does not answer"),
    "store_unavailable": (503, "Corrections cannot be stored now"),
    "store_full": (507, "There is no room for corrections"),
    "shutting_down": (503, "The server is shutting down"),
    "too_many_connections": (503, "Too many connections at once"),
    "deadline_exceeded": (504, "The answer took too long"),
}

_ENGINE_PROBLEMS: dict[type[ServingError], tuple[str, str]] = {
    UnknownModel: ("unknown_model", "This model or version is not served here; see /v1/models."),
    ServerBusy: ("overloaded", "The engine's queue is full; try again shortly."),  # which is a ServerUnavailable
    ServerUnavailable: ("engine_unavailable", "The engine is down or starting; try again shortly."),
    ServerTimeout: ("deadline_exceeded", "The model did not answer in time; try again, or send less at once."),
}
_ENGINE_FAILED = ("engine_failed", "The model failed on this input; the log here says why.")
_RETRY_AFTER = {
    **dict.fromkeys(("overloaded", "too_many_connections"), "1"),
    **dict.fromkeys(("engine_unavailable", "store_unavailable", "shutting_down"), "2"),
}


class Problem(BaseModel):
    """RFC 9457 problem details; `code` is stable, `detail` is one sentence for a person."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str

    @classmethod
    def of(cls, code: str, detail: str, request_id: str) -> "Problem":
        status, title = PROBLEMS[code]
        return cls(title=title, status=status, detail=detail, code=code, request_id=request_id)


class GatewayError(Exception):
    """An error of the gateway itself; `code` is a key of PROBLEMS, `headers` are for its answer."""

    def __init__(self, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.code, self.detail, self.headers = code, detail, headers or {}


class AnswerErrors:
    """Answers every error that the app raises, and 503 to a request that the end of the server cuts off.

    An error after the answer has begun passes on to the server, which closes the connection. Observe notes the status
    of an answer once it begins.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except (Exception, asyncio.CancelledError) as error:
            if "status" in scope.get("state", ()):
                raise
            await answer_problem(scope, send, error)


async def answer_problem(scope: Scope, send: Send, error: BaseException) -> None:
    """Answers with `error`. The client gets our words; what an engine or a library said is for the log."""
    problem, failure = problem_of(error, scope)
    body = problem.model_dump_json().encode()
    # What a Response would send: a flood of requests that are refused must cost little.
    further = {**retry_after(failure.code), **failure.headers}
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in further.items()]
    headers += (b"content-length", b"%d" % len(body)), _PROBLEM_HEADER
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def problem_of(error: BaseException, scope: Scope) -> tuple[Problem, GatewayError]:
    """The problem that `error` is for the client, and as an error of the gateway; the log gets both."""
    state = scope.setdefault("state", {})
    request_id = state.get("request_id", "")
    failure = error if isinstance(error, GatewayError) else _as_gateway_error(error, scope, request_id)
    state["problem"] = failure.code
    return Problem.of(failure.code, failure.detail, request_id), failure


def retry_after(code: str) -> dict[str, str]:
    """The header with the seconds after which a client may try again, if this problem is temporary."""
    return {"Retry-After": _RETRY_AFTER[code]} if code in _RETRY_AFTER else {}


def _as_gateway_error(error: BaseException, scope: Scope, request_id: str) -> GatewayError:
    if isinstance(error, ImageError):
        return GatewayError(error.code, str(error))
    if isinstance(error, ServingError):
        logger.warning("request %s: %s: %s", request_id, type(error).__name__, error)
        found = next((words for kind, words in _ENGINE_PROBLEMS.items() if isinstance(error, kind)), _ENGINE_FAILED)
        return GatewayError(*found)
    if isinstance(error, HTTPException):
        return _of_routing(error, scope)
    if isinstance(error, asyncio.CancelledError):
        logger.warning("request %s was cut off by the end of the server", request_id)
        return GatewayError("shutting_down", "The server is shutting down; try again shortly.")
    logger.error("request %s failed", request_id, exc_info=error)
    return GatewayError("internal", "The server failed; its log has the details under this request id.")


def _of_routing(error: HTTPException, scope: Scope) -> GatewayError:
    """Starlette raises this for an unknown path, a wrong method and a file that it cannot send."""
    codes = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "malformed_body" if error.status_code < 500 else "internal")
    phrase = HTTPStatus(error.status_code).phrase.lower()
    return GatewayError(code, f"{scope['method']} {URL(scope=scope).path}: {phrase}.", error.headers)
