"""Keys over HTTP: what is open, what is closed, and how a client without a key is told."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from serving.gateway.access.auth import RequireKey
from serving.gateway.access.keys import KeyRing, add_key, revoke_key
from serving.gateway.problems import AnswerErrors
from tests.conftest import ROOT, running_gateway
from tests.polling import PATIENCE, until

PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()
OPEN = (
    "/",
    "/page/app.js",
    "/docs",
    "/docs/assets/swagger-ui.css",
    "/openapi.json",
    "/v2/health/live",
    "/v2/health/ready",
)
CLOSED = (
    "/v1/models",
    "/v1/models/scenes",
    "/metrics",
    "/nothing",
    "/v1",
    "/v2/health/live/../../v1/models",
    "//v1/models",
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "labelwise.keys"


@pytest.fixture(scope="module")
def key(file: Path) -> str:
    return add_key(file, "ci")


@pytest.fixture(scope="module")
def url(file: Path, key: str) -> Iterator[str]:
    """A gateway with keys, on every address: that is what they allow."""
    with running_gateway("--keys", str(file), "--host", "0.0.0.0", "--teach") as (url, _):
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        yield client


def assert_unauthorized(response: httpx.Response) -> None:
    assert response.status_code == 401, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"].startswith('Bearer realm="labelwise"')
    problem = response.json()
    assert (problem["code"], problem["request_id"]) == ("unauthorized", response.headers["x-request-id"])


def test_open_addresses_need_no_key(client: httpx.Client) -> None:
    assert {path: client.get(path).status_code for path in OPEN} == dict.fromkeys(OPEN, 200)


@pytest.mark.parametrize("path", CLOSED)
def test_everything_else_is_closed_even_unknown_paths(url: str, client: httpx.Client, path: str) -> None:
    request = client.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())  # as it is, not tidied up
    assert_unauthorized(client.send(request))
    assert_unauthorized(client.request("OPTIONS", path))


def test_both_ways_to_send_a_key(client: httpx.Client, key: str) -> None:
    for headers in ({"Authorization": f"Bearer {key}"}, {"authorization": f"bearer  {key}"}, {"X-API-Key": key}):
        assert client.post("/v1/tag", content=PHOTO, headers=headers).status_code == 200
    assert client.get("/metrics", headers={"X-API-Key": key}).status_code == 200


def test_wrong_keys(client: httpx.Client, key: str) -> None:
    assert_unauthorized(client.post("/v1/tag", content=PHOTO))
    wrong = [
        {"Authorization": key},
        {"Authorization": f"Basic {key}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer x", "X-API-Key": key},
        {"X-API-Key": key + "x"},
        {"X-API-Key": b"\xff\xfe"},
    ]
    for headers in wrong:
        assert_unauthorized(client.post("/v1/tag", content=PHOTO, headers=headers))
    assert_unauthorized(client.get("/v1/models", params={"key": key, "api_key": key}))
    assert "error=" not in client.get("/v1/models").headers["www-authenticate"]
    assert 'error="invalid_token"' in client.get("/v1/models", headers=wrong[4]).headers["www-authenticate"]


def test_keys_come_and_go_while_it_runs(client: httpx.Client, file: Path) -> None:
    def status(key: str) -> int:
        return client.get("/v1/models", headers={"X-API-Key": key}).status_code

    guest = add_key(file, "guest")
    until(lambda: status(guest) == 200)
    revoke_key(file, "guest")
    until(lambda: status(guest) == 401)


def test_it_says_what_a_key_may_do_here(client: httpx.Client, file: Path, key: str) -> None:
    def may(key: str) -> object:
        answer = client.get("/v1/models", headers={"X-API-Key": key})
        return answer.status_code == 200 and answer.json()["may"]

    teacher = add_key(file, "teacher", ["teach", "feedback"])
    until(lambda: may(teacher) == ["teach"])  # the operator did not switch feedback on
    assert may(key) == []
    refused = client.post("/v1/teach", headers={"X-API-Key": key})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "labelwise keys add NAME --may teach" in refused.json()["detail"]
    assert client.get("/v1/models/scenes/versions", headers={"X-API-Key": teacher}).status_code == 200


def test_the_openapi_document_tells(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "header"}
    assert schema["paths"]["/v1/tag"]["post"]["security"] == [{"bearer": []}, {"header": []}]
    assert "401" in schema["paths"]["/metrics"]["get"]["responses"]
    assert "security" not in schema["paths"]["/v2/health/live"]["get"]


@pytest.mark.parametrize(("public", "status"), [(True, 404), (False, 401)])
def test_public_metrics(file: Path, key: str, public: bool, status: int) -> None:
    app = FastAPI()  # which has no such address: a 404 was let through
    app.add_middleware(RequireKey, keys=KeyRing(file), public_metrics=public)
    app.add_middleware(AnswerErrors)

    async def status_of(path: str) -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return (await client.get(path)).status_code

    assert asyncio.run(status_of("/metrics")) == status
    assert asyncio.run(status_of("/v1/models")) == 401
