"""One gateway per engine, each started once. Contract tests run on both."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.polling import PATIENCE


@pytest.fixture(scope="session", params=["embedded", "triton"])
def engine_url(request: pytest.FixtureRequest) -> str:
    """The gateway, once on each engine."""
    name = {"embedded": "gateway_url", "triton": "triton_gateway_url"}[request.param]
    return str(request.getfixturevalue(name))


@pytest.fixture(scope="session")
def triton_url(triton_gateway_url: str, triton_arguments: dict[str, str]) -> str:
    """The gRPC address of the Triton that the gateway started."""
    return f"grpc://127.0.0.1:{triton_arguments['triton_grpc_port']}"


@pytest.fixture
def client(engine_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine_url, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def tag(client: httpx.Client) -> Callable[..., httpx.Response]:
    """tag(bytes, **query) -> the gateway's response."""

    def post(photo: bytes, **query: object) -> httpx.Response:
        return client.post("/v1/tag", content=photo, params=query, headers={"Content-Type": "image/jpeg"})

    return post
