"""Photos to tags: one, or many in one request."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from serving.gateway.answers.tagging import BatchAnswer, TagAnswer
from serving.gateway.requests.query import TagQuery
from serving.gateway.routes import examples
from serving.gateway.routes.common import (
    BATCH_PROBLEMS,
    PHOTO_PROBLEMS,
    done,
    json_answer,
    many_photos,
    one_photo,
    service_of,
)

router = APIRouter(tags=["tagging"])


@router.post(
    "/v1/tag",
    summary="Tag one photo",
    response_model=TagAnswer,
    responses=done(examples.TAG) | PHOTO_PROBLEMS,
    openapi_extra=one_photo(),
)
async def tag(request: Request, query: Annotated[TagQuery, Query()]) -> Response:
    """The labels whose score reaches their threshold, highest score first."""
    return json_answer(await service_of(request).tag(request, query))


@router.post(
    "/v1/tag:batch",
    summary="Tag many photos",
    response_model=BatchAnswer,
    responses=done(examples.BATCH) | BATCH_PROBLEMS,
    openapi_extra=many_photos(),
)
async def tag_batch(request: Request, query: Annotated[TagQuery, Query()]) -> Response:
    """The tags of each photo, in the order they came. What is wrong with one photo stands in its place, and does not
    concern the others."""
    return json_answer(await service_of(request).tag_batch(request, query))
