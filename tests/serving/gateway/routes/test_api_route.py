"""ApiRoute reads a query string as FastAPI's own route does, and refuses it in the same words."""

from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Query
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.testclient import TestClient

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


async def tag(request: Request, query: TagQuery) -> TagQuery:
    return query


async def contract(request: Request, query: ContractQuery) -> ContractQuery:
    return query


def ours() -> TestClient:
    """Endpoints that answer with the query that they are given."""
    app = Starlette(routes=[ApiRoute("/tag", tag), ApiRoute("/contract", contract)])
    app.add_middleware(AnswerErrors)
    return TestClient(app)


def fastapis() -> TestClient:
    """The same endpoints, in the way of FastAPI."""
    app = FastAPI()

    @app.get("/tag")
    async def tag(query: Annotated[TagQuery, Query()]) -> TagQuery:
        return query

    @app.get("/contract")
    async def contract(query: Annotated[ContractQuery, Query()]) -> ContractQuery:
        return query

    return TestClient(app)


@pytest.fixture(scope="module")
def clients() -> Iterator[tuple[TestClient, TestClient]]:
    with ours() as our_client, fastapis() as their_client:
        yield our_client, their_client


@pytest.mark.parametrize("path", ["/tag", "/contract"])
@pytest.mark.parametrize("query", EVERY, ids=lambda query: query[:40])
def test_a_query_is_read_as_fastapi_reads_it(clients: tuple[TestClient, TestClient], path: str, query: str) -> None:
    our, their = (client.get(f"{path}?{query}") for client in clients)
    assert our.status_code == their.status_code
    if our.status_code == 200:
        assert our.content == their.content
        return
    first = their.json()["detail"][0]
    wrong = "there is no such parameter" if first["type"] == "extra_forbidden" else first["msg"]
    assert our.json()["detail"] == f"{'.'.join(first['loc'][1:])}: {wrong}."
    assert our.json()["code"] == "invalid_request"


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
