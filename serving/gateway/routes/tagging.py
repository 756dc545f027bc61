"""Photos to tags, one or many in one request; where in a photo its labels were seen, and a vector for each of them."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from serving.gateway.answers.embedding import EmbedAnswer, embedding_bytes, make_embed_answer
from serving.gateway.answers.explaining import ExplainAnswer, ExplainQuery
from serving.gateway.answers.tagging import BatchAnswer, TagAnswer
from serving.gateway.requests.query import LabelQuery, TagQuery
from serving.gateway.routes import examples
from serving.gateway.routes.api_route import ApiRoute, accepts, service_of
from serving.gateway.routes.openapi import BATCH_PROBLEMS, MANY_PHOTOS, ONE_PHOTO, OUTPUT_PROBLEMS, PHOTO_PROBLEMS, done

_PNG, _BYTES = "image/png", "application/octet-stream"

router = APIRouter(tags=["tagging"], route_class=ApiRoute)


@router.post(
    "/v1/tag",
    summary="Tag one photo",
    response_model_exclude_none=True,
    responses=done(examples.TAG) | PHOTO_PROBLEMS,
    openapi_extra=ONE_PHOTO,
)
async def tag(request: Request, query: Annotated[TagQuery, Query()]) -> TagAnswer:
    """The labels whose score reaches their threshold, highest score first."""
    return await service_of(request).tag(request, query)


@router.post(
    "/v1/tag:batch",
    summary="Tag many photos",
    response_model_exclude_none=True,
    responses=done(examples.BATCH) | BATCH_PROBLEMS,
    openapi_extra=MANY_PHOTOS,
)
async def tag_batch(request: Request, query: Annotated[TagQuery, Query()]) -> BatchAnswer:
    """The tags of each photo, in the order in which the photos came. The result of a photo that cannot be tagged is an
    error, and the others are tagged all the same."""
    return await service_of(request).tag_batch(request, query)


@router.post(
    "/v1/explain",
    summary="Where in the photo each label was seen",
    response_model=ExplainAnswer,
    response_model_exclude_none=True,
    responses=done(examples.EXPLAIN, other=_PNG) | OUTPUT_PROBLEMS,
    openapi_extra=ONE_PHOTO,
)
async def explain(request: Request, query: Annotated[ExplainQuery, Query()]) -> ExplainAnswer | Response:
    """The model's own attention for each tag, or with `labels` for exactly those labels: a grid in the photo's pixels.
    With `Accept: image/png` the answer is the upright photo, at most 1024 px, with up to 7 labels drawn over it."""
    if accepts(request, _PNG):
        return Response(await service_of(request).explain_as_picture(request, query), media_type=_PNG)
    return await service_of(request).explain(request, query)


@router.post(
    "/v1/embed",
    summary="A vector for each label of the photo",
    response_model=EmbedAnswer,
    response_model_exclude_none=True,
    responses=done(examples.EMBED, other=_BYTES) | OUTPUT_PROBLEMS,
    openapi_extra=ONE_PHOTO,
)
async def embed(request: Request, query: Annotated[LabelQuery, Query()]) -> EmbedAnswer | Response:
    """To find other photos whose *sea* looks like this one's, compare this label's vector with the same label's vectors
    of other photos. With `Accept: application/octet-stream` the answer is little-endian float32 [labels, dimension],
    described in headers."""
    choice, embeddings, notes = await service_of(request).embed(request, query)
    if accepts(request, _BYTES):
        content, headers = embedding_bytes(choice, embeddings, notes)
        return Response(content, headers=headers, media_type=_BYTES)
    return make_embed_answer(choice, embeddings, notes, request.state.request_id)
