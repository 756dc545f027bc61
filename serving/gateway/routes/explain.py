"""Where in a photo its labels were seen."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from serving.gateway.answers.explaining import ExplainAnswer, ExplainQuery
from serving.gateway.routes import examples
from serving.gateway.routes.api_route import ApiRoute
from serving.gateway.routes.common import accepts, service_of
from serving.gateway.routes.openapi import OUTPUT_PROBLEMS, done, one_photo

_PNG = "image/png"

router = APIRouter(tags=["tagging"], route_class=ApiRoute)


@router.post(
    "/v1/explain",
    summary="Where in the photo each label was seen",
    response_model=ExplainAnswer,
    response_model_exclude_none=True,
    responses=done(examples.EXPLAIN, other=_PNG) | OUTPUT_PROBLEMS,
    openapi_extra=one_photo(),
)
async def explain(request: Request, query: Annotated[ExplainQuery, Query()]) -> ExplainAnswer | Response:
    """The model's own attention for each tag, or with `labels` for exactly those labels: a grid in the photo's pixels.
    With `Accept: image/png` the answer is the upright photo, at most 1024 px, with up to 7 labels drawn over it."""
    if accepts(request, _PNG):
        return Response(await service_of(request).explain_as_picture(request, query), media_type=_PNG)
    return await service_of(request).explain(request, query)
