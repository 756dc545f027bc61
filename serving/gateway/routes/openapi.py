"""The OpenAPI document: FastAPI builds it from the routes and their models, and this is what those cannot say."""

from collections.abc import Callable
from typing import Any

from pydantic.json_schema import models_json_schema

from serving.gateway.problems import PROBLEM_TYPE, PROBLEMS, Problem
from serving.gateway.requests.forms import JsonBatch
from serving.gateway.requests.upload import BATCH_FIELD, FORM_FIELD
from serving.gateway.routes.api_route import JSON_TYPE, serializer_of
from serving.gateway.routes.examples import DETAILS, REQUEST_ID

_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
LINES_TYPE = "application/x-ndjson"
_SCHEMAS = "#/components/schemas/{model}"
_PHOTO_SCHEMA: dict[str, Any] = {"type": "string", "format": "binary"}

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


def done(answer: Any, other: str | None = None, lines: str | None = None) -> dict[int | str, dict[str, Any]]:
    """Describes a 200 that looks like `answer`, or is bytes of the content type `other`, or `lines` of JSON."""
    content: dict[str, Any] = {
        JSON_TYPE: {"example": serializer_of(answer).to_python(answer, mode="json", exclude_none=True)}
    }
    if other:
        content[other] = {"schema": _PHOTO_SCHEMA}
    if lines:
        content[LINES_TYPE] = {"schema": {"type": "string"}, "example": lines}
    return {200: {"description": "Done", "content": content}}


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Describes the errors that a route can answer with, each with an example."""
    described: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, title = PROBLEMS[code]
        content = {PROBLEM_TYPE: {"schema": {"$ref": _SCHEMAS.format(model="Problem")}, "examples": {}}}
        entry = described.setdefault(status, {"content": content, "description": ""})
        entry["description"] = " / ".join(filter(None, [entry["description"], f"{title} (`{code}`)"]))
        example = Problem.of(code, DETAILS[code], REQUEST_ID).model_dump()
        entry["content"][PROBLEM_TYPE]["examples"][code] = {"summary": title, "value": example}
    return described


OUTPUT_PROBLEMS = problems(*_OF_ANY_UPLOAD, *_OF_ONE_PHOTO, "output_not_offered")
BATCH_PROBLEMS = problems(*_OF_ANY_UPLOAD, "too_many_images")
PHOTO_PROBLEMS = problems(*_OF_ANY_UPLOAD, *_OF_ONE_PHOTO)
_OF_THE_STORE = ("forbidden", "store_full", "store_unavailable")
FEEDBACK_PROBLEMS = problems(*_OF_ANY_UPLOAD, *_OF_ONE_PHOTO, *_OF_THE_STORE)
STORE_PROBLEMS = problems("forbidden", "store_unavailable", "deadline_exceeded")
_OF_ANY_LESSON = (
    *("forbidden", "unknown_model", "invalid_request", "not_teachable", "lesson_refused", "overloaded", "internal"),
    *("lesson_failed", "engine_unavailable", "shutting_down", "deadline_exceeded"),
)
LESSON_PROBLEMS = problems(
    *_OF_ANY_LESSON,
    *("malformed_body", "upload_timeout", "body_too_large", "too_many_images", "content_type_unsupported"),
)
UNDO_PROBLEMS = problems(*_OF_ANY_LESSON, "not_found")


ONE_PHOTO = {
    "requestBody": {
        "required": True,
        "description": "One photo: its bytes as the body, or a form with one file.",
        "content": {
            "image/*": {"schema": _PHOTO_SCHEMA},
            "multipart/form-data": {
                "schema": {"type": "object", "required": [FORM_FIELD], "properties": {FORM_FIELD: _PHOTO_SCHEMA}}
            },
        },
    },
}
_FILES = {"type": "array", "minItems": 1, "items": _PHOTO_SCHEMA}
MANY_PHOTOS = {
    "requestBody": {
        "required": True,
        "description": "Several photos: the files of a form, or base64 in JSON, with a different `id` for each.",
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": [BATCH_FIELD], "properties": {BATCH_FIELD: _FILES}}
            },
            JSON_TYPE: {
                "schema": {"$ref": _SCHEMAS.format(model="JsonBatch")},
                "example": {
                    "images": [
                        {"id": "1", "data": "/9j/4AAQSkZJRgABAQAAAQABAAD…"},
                        {"id": "2", "data": "iVBORw0KGgo…"},
                    ]
                },
            },
        },
    },
}


LESSON = {
    "requestBody": {
        "required": True,
        "description": "The label, photos with it, and photos without it.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["label"],
                    "properties": {
                        "label": {"type": "string", "minLength": 1},
                        "yes": {"type": "array", "items": _PHOTO_SCHEMA},
                        "no": {"type": "array", "items": _PHOTO_SCHEMA},
                        "from_feedback": {
                            "type": "string",
                            "enum": ["true", "false"],
                            "description": "`true` adds what corrections said about this label.",
                        },
                    },
                }
            }
        },
    },
}


def complete(document: dict[str, Any], needs_key: Callable[[str], bool] | None) -> dict[str, Any]:
    """Adds what no route can declare: problems, photos as JSON, and the keys of every address that needs one."""
    components = document["components"]
    _, schemas = models_json_schema([(Problem, "validation"), (JsonBatch, "validation")], ref_template=_SCHEMAS)
    components["schemas"].update(schemas["$defs"])
    if needs_key is None:
        return document
    components["securitySchemes"] = _KEYS
    for path, operations in document["paths"].items():
        if needs_key(path):
            for operation in operations.values():
                operation["security"] = [{name: []} for name in _KEYS]
                operation["responses"]["401"] = problems("unauthorized")[401]
    return document
