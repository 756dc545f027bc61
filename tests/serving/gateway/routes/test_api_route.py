"""ApiRoute reads a query string as FastAPI's own route does, and refuses it in the same words."""

from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from serving.gateway.problems import AnswerErrors
from serving.gateway.requests.query import TagQuery
from serving.gateway.routes.api_route import ApiRoute
from serving.gateway.routes.models import ContractQuery
from tests.conftest import ROOT

PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()
READ = ("", "scores=all", "top_k=2&scores=all", "threshold=sea:0.1,trees:0.2", "labels=sea%2Ctrees&scores=all")
READ_TOO = ("labels=moon", "threshold=nan", "model=none", "version=99", "threshold=", "labels=s%C3%A9a", "labels=a+b")
REFUSED = (
    "top_k=0",
    "top_k=many",
    "scores=some",
    "unknown=1",
    "unknown=1&top_k=0",
    "scores=",
    "version=1.5",
    "a&b=&=c",
)
REPEATED = ("top_k=1&top_k=2", "version=1&version=x", "labels=&labels=sea", "unknown=1&unknown=2")
LONG = ("labels=" + "a," * 400, "x" * 600)
EVERY = (*READ, *READ_TOO, *REFUSED, *REPEATED, *LONG)


def client_of(route_class: type[APIRoute]) -> TestClient:
    """Endpoints that answer with the query that they are given."""
    router = APIRouter(route_class=route_class)

    @router.get("/tag")
    async def tag(request: Request, query: Annotated[TagQuery, Query()]) -> TagQuery:
        return query

    @router.get("/contract")
    async def contract(request: Request, query: Annotated[ContractQuery, Query()]) -> ContractQuery:
        return query

    app = FastAPI(routes=list(router.routes))
    app.add_middleware(AnswerErrors)
    return TestClient(app)


@pytest.fixture(scope="module")
def clients() -> Iterator[tuple[TestClient, TestClient]]:
    with client_of(ApiRoute) as ours, client_of(APIRoute) as fastapis:
        yield ours, fastapis


@pytest.mark.parametrize("path", ["/tag", "/contract"])
@pytest.mark.parametrize("query", EVERY, ids=lambda query: query[:40])
def test_a_query_is_read_as_fastapi_reads_it(clients: tuple[TestClient, TestClient], path: str, query: str) -> None:
    ours, fastapis = (client.get(f"{path}?{query}") for client in clients)
    assert ours.status_code == fastapis.status_code
    if ours.status_code == 200:
        assert ours.content == fastapis.content
        return
    first = fastapis.json()["detail"][0]
    wrong = "there is no such parameter" if first["type"] == "extra_forbidden" else first["msg"]
    assert ours.json()["detail"] == f"{'.'.join(first['loc'][1:])}: {wrong}."
    assert ours.json()["code"] == "invalid_request"


def test_some_are_read_and_some_are_refused(clients: tuple[TestClient, TestClient]) -> None:
    assert {clients[0].get(f"/tag?{query}").status_code for query in (*READ, *READ_TOO)} == {200}
    assert {clients[0].get(f"/tag?{query}").status_code for query in REFUSED} == {422}


def test_a_query_that_is_remembered_is_answered_alike(gateway_url: str) -> None:
    def statuses(queries: tuple[str, ...]) -> set[int]:
        return {httpx.post(f"{gateway_url}/v1/tag?{query}", content=PHOTO).status_code for query in queries * 2}

    assert statuses(READ) == {200}
    assert statuses((*REFUSED, *REPEATED)) == {422}


def test_nothing_else_is_injected() -> None:
    async def with_a_name(request: Request, name: str) -> Any: ...

    async def with_a_dependency(request: Request, found: Annotated[str, Depends(str)]) -> Any: ...

    for endpoint in (with_a_name, with_a_dependency):
        with pytest.raises(TypeError, match="nothing else is injected"):
            ApiRoute("/v1/{name}", endpoint)
