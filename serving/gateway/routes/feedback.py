"""Corrections: what a person says of a photo, for the tagger to learn from."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from serving.gateway.access.scopes import require
from serving.gateway.feedback.service import FeedbackAnswer, FeedbackCounts, FeedbackService
from serving.gateway.requests.query import FeedbackQuery
from serving.gateway.routes import examples
from serving.gateway.routes.api_route import ApiRoute, service_of
from serving.gateway.routes.openapi import FEEDBACK_PROBLEMS, ONE_PHOTO, STORE_PROBLEMS, done

router = APIRouter(tags=["feedback"], route_class=ApiRoute)

_TOKEN: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "A name for this request. If it is sent again with the same name, it is stored only once, also if "
    "another answer about the photo came in between.",
}


@router.post(
    "/v1/feedback",
    summary="Store what a photo shows and what it does not",
    response_model_exclude_none=True,
    responses=done(examples.FEEDBACK) | FEEDBACK_PROBLEMS,
    openapi_extra=ONE_PHOTO | {"parameters": [_TOKEN]},
)
async def feedback(request: Request, query: Annotated[FeedbackQuery, Query()]) -> FeedbackAnswer:
    """The newest answer about a photo and a label counts. One that the store has already is not stored again."""
    return await _service(request).add(request, query)


@router.get("/v1/feedback", summary="How many answers there are", responses=done(examples.COUNTS) | STORE_PROBLEMS)
async def counts(request: Request) -> FeedbackCounts:
    """For each label, the photos that have it and those that do not, by the newest answers."""
    return await _service(request).counts()


def _service(request: Request) -> FeedbackService:
    """Raises GatewayError if this request may not use it."""
    require(request, service_of(request).settings, "feedback")
    service: FeedbackService = request.app.state.feedback
    return service
