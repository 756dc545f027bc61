"""What the routes share: the service, the form of an answer, and OpenAPI's words for bodies and errors."""

import re
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel

from serving.gateway.problems import PROBLEM_TYPE, PROBLEMS, Problem
from serving.gateway.requests.upload import BATCH_FIELD, FORM_FIELD
from serving.gateway.routes.examples import DETAILS, REQUEST_ID
from serving.gateway.service import TaggingService

JSON_TYPE = "application/json"
_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)
PHOTO_SCHEMA: dict[str, Any] = {"type": "string", "format": "binary"}

# Every request with photos can meet these, beside what is wrong with the photos.
_OF_ANY_UPLOAD = (
    *("malformed_body", "unknown_model", "upload_timeout", "body_too_large", "content_type_unsupported"),
    *("invalid_request", "overloaded", "internal", "engine_failed", "engine_unavailable", "shutting_down"),
    "deadline_exceeded",
)
_OF_ONE_PHOTO = (
    *("image_too_many_pixels", "image_format_unsupported", "image_empty", "image_broken", "image_too_small"),
    *("image_too_complex", "decoder_failed"),
    *("url_not_allowed", "url_not_fetched"),
)


def service_of(request: Request) -> TaggingService:
    service: TaggingService = request.app.state.service
    return service


def json_answer(answer: BaseModel) -> Response:
    """Written by pydantic itself: FastAPI would validate again what was built from valid parts."""
    return Response(answer.model_dump_json(exclude_none=True), media_type=JSON_TYPE)


def accepts(request: Request, kind: str) -> bool:
    """Whether the client would rather have `kind` than JSON, by its Accept header (RFC 9110, section 12.5.1)."""
    return _quality(request, kind) > _quality(request, JSON_TYPE)


def _quality(request: Request, kind: str) -> float:
    """What the most specific range for `kind` in the Accept header gives it, from 0 to 1."""
    ranges = {kind: 3, f"{kind.partition('/')[0]}/*": 2, "*/*": 1}
    best, quality = 0, 0.0
    for part in request.headers.get("accept", "*/*").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if ranges.get(name, 0) > best:
            best = ranges[name]
            given = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
            quality = float(given) if _QUALITY.fullmatch(given) else 1.0
    return quality


def done(answer: BaseModel, other: str | None = None) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's word for a 200 that looks like `answer`, or is bytes of the content type `other`."""
    content: dict[str, Any] = {JSON_TYPE: {"example": answer.model_dump(mode="json", exclude_none=True)}}
    if other:
        content[other] = {"schema": PHOTO_SCHEMA}
    return {200: {"description": "Done", "content": content}}


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's word for the errors a route can answer with, each with an example, from the one table."""
    described: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, title = PROBLEMS[code]
        content = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}}
        entry = described.setdefault(status, {"content": content, "description": ""})
        entry["description"] = " / ".join(filter(None, [entry["description"], f"{title} (`{code}`)"]))
        problem = Problem(title=title, status=status, detail=DETAILS[code], code=code, request_id=REQUEST_ID)
        entry["content"][PROBLEM_TYPE]["examples"][code] = {"summary": title, "value": problem.model_dump()}
    return described


OUTPUT_PROBLEMS = problems(*_OF_ANY_UPLOAD, *_OF_ONE_PHOTO, "output_not_offered")
BATCH_PROBLEMS = problems(*_OF_ANY_UPLOAD, "too_many_images")
PHOTO_PROBLEMS = problems(*_OF_ANY_UPLOAD, *_OF_ONE_PHOTO)


def one_photo() -> dict[str, Any]:
    """OpenAPI's word for a request with one photo."""
    form = {"type": "object", "required": [FORM_FIELD], "properties": {FORM_FIELD: PHOTO_SCHEMA}}
    return {
        "requestBody": {
            "required": True,
            "description": "One photo: its bytes as the body, or a form with one file.",
            "content": {"image/*": {"schema": PHOTO_SCHEMA}, "multipart/form-data": {"schema": form}},
        },
    }


def many_photos() -> dict[str, Any]:
    """OpenAPI's word for a request with several photos."""
    files = {"type": "array", "minItems": 1, "items": PHOTO_SCHEMA}
    image = {
        "type": "object",
        "required": ["id", "data"],
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": 1024},
            "data": {"type": "string", "contentEncoding": "base64", "description": "The photo's bytes."},
        },
    }
    images = {"type": "array", "minItems": 1, "items": image}
    json_body = {
        "type": "object",
        "required": ["images"],
        "additionalProperties": False,
        "properties": {"images": images},
    }
    form = {"type": "object", "required": [BATCH_FIELD], "properties": {BATCH_FIELD: files}}
    example = {"images": [{"id": "1", "data": "/9j/4AAQSkZJRgABAQAAAQABAAD…"}, {"id": "2", "data": "iVBORw0KGgo…"}]}
    return {
        "requestBody": {
            "required": True,
            "description": "Several photos: the files of a form, or base64 in JSON, where every `id` stands once.",
            "content": {"multipart/form-data": {"schema": form}, JSON_TYPE: {"schema": json_body, "example": example}},
        },
    }
