"""Photos to tags: one, or many in one request."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from serving.gateway.answers.tagging import BatchAnswer, TagAnswer
from serving.gateway.requests.query import TagQuery
from serving.gateway.routes import examples
from serving.gateway.routes.api_route import ApiRoute
from serving.gateway.routes.common import service_of
from serving.gateway.routes.openapi import BATCH_PROBLEMS, PHOTO_PROBLEMS, done, many_photos, one_photo

router = APIRouter(tags=["tagging"], route_class=ApiRoute)


@router.post(
    "/v1/tag",
    summary="Tag one photo",
    response_model_exclude_none=True,
    responses=done(examples.TAG) | PHOTO_PROBLEMS,
    openapi_extra=one_photo(),
)
async def tag(request: Request, query: Annotated[TagQuery, Query()]) -> TagAnswer:
    """The labels whose score reaches their threshold, highest score first."""
    return await service_of(request).tag(request, query)


@router.post(
    "/v1/tag:batch",
    summary="Tag many photos",
    response_model_exclude_none=True,
    responses=done(examples.BATCH) | BATCH_PROBLEMS,
    openapi_extra=many_photos(),
)
async def tag_batch(request: Request, query: Annotated[TagQuery, Query()]) -> BatchAnswer:
    """The tags of each photo, in the order in which the photos came. The result of a photo that cannot be tagged is an
    error, and the others are tagged all the same."""
    return await service_of(request).tag_batch(request, query)
