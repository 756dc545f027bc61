"""The OpenAPI document: FastAPI builds it from the routes and their models, and this is what those cannot say."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from serving.gateway.problems import PROBLEM_TYPE, PROBLEMS, Problem
from serving.gateway.requests.upload import BATCH_FIELD, FORM_FIELD
from serving.gateway.routes.api_route import JSON_TYPE
from serving.gateway.routes.examples import DETAILS, REQUEST_ID

_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_UNAUTHORIZED = {
    "description": "A valid key is needed (`unauthorized`)",
    "content": {
        PROBLEM_TYPE: {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "example": Problem.of("unauthorized", DETAILS["unauthorized"], "order-66").model_dump(),
        }
    },
}
PHOTO_SCHEMA: dict[str, Any] = {"type": "string", "format": "binary"}

# Every request with photos can end with these, besides errors of the photos.
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


def done(answer: BaseModel, other: str | None = None) -> dict[int | str, dict[str, Any]]:
    """Describes a 200 that looks like `answer`, or is bytes of the content type `other`."""
    content: dict[str, Any] = {JSON_TYPE: {"example": answer.model_dump(mode="json", exclude_none=True)}}
    if other:
        content[other] = {"schema": PHOTO_SCHEMA}
    return {200: {"description": "Done", "content": content}}


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Describes the errors that a route can answer with, each with an example."""
    described: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, title = PROBLEMS[code]
        content = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}}
        entry = described.setdefault(status, {"content": content, "description": ""})
        entry["description"] = " / ".join(filter(None, [entry["description"], f"{title} (`{code}`)"]))
        example = Problem.of(code, DETAILS[code], REQUEST_ID).model_dump()
        entry["content"][PROBLEM_TYPE]["examples"][code] = {"summary": title, "value": example}
    return described


OUTPUT_PROBLEMS = problems(*_OF_ANY_UPLOAD, *_OF_ONE_PHOTO, "output_not_offered")
BATCH_PROBLEMS = problems(*_OF_ANY_UPLOAD, "too_many_images")
PHOTO_PROBLEMS = problems(*_OF_ANY_UPLOAD, *_OF_ONE_PHOTO)


def one_photo() -> dict[str, Any]:
    """Describes a request with one photo."""
    form = {"type": "object", "required": [FORM_FIELD], "properties": {FORM_FIELD: PHOTO_SCHEMA}}
    return {
        "requestBody": {
            "required": True,
            "description": "One photo: its bytes as the body, or a form with one file.",
            "content": {"image/*": {"schema": PHOTO_SCHEMA}, "multipart/form-data": {"schema": form}},
        },
    }


def many_photos() -> dict[str, Any]:
    """Describes a request with several photos."""
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
            "description": "Several photos: the files of a form, or base64 in JSON, with a different `id` for each.",
            "content": {"multipart/form-data": {"schema": form}, JSON_TYPE: {"schema": json_body, "example": example}},
        },
    }


def complete(document: dict[str, Any], needs_key: Callable[[str], bool] | None) -> dict[str, Any]:
    """Adds what no route can declare: how a problem looks, and the keys of every address that needs one."""
    components = document["components"]
    components["schemas"]["Problem"] = Problem.model_json_schema()
    if needs_key is None:
        return document
    components["securitySchemes"] = _KEYS
    for path, operations in document["paths"].items():
        if needs_key(path):
            for operation in operations.values():
                operation["security"] = [{name: []} for name in _KEYS]
                operation["responses"]["401"] = _UNAUTHORIZED
    return document
