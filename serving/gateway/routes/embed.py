"""A photo's label-level embeddings."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from serving.gateway.answers.embedding import EmbedAnswer, embedding_bytes, make_embed_answer
from serving.gateway.requests.query import LabelQuery
from serving.gateway.routes import examples
from serving.gateway.routes.api_route import ApiRoute
from serving.gateway.routes.common import accepts, service_of
from serving.gateway.routes.openapi import OUTPUT_PROBLEMS, done, one_photo

_BYTES = "application/octet-stream"

router = APIRouter(tags=["tagging"], route_class=ApiRoute)


@router.post(
    "/v1/embed",
    summary="A vector for each label of the photo",
    response_model=EmbedAnswer,
    response_model_exclude_none=True,
    responses=done(examples.EMBED, other=_BYTES) | OUTPUT_PROBLEMS,
    openapi_extra=one_photo(),
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
