"""A gateway per engine, started once: whatever is asked of one is asked of the other."""

import importlib.util
import shutil
import socket
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.conftest import running_gateway


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def triton_arguments() -> dict[str, str]:
    """Settings of a gateway that starts its own Triton on free ports; skips where there is no Triton."""
    if not shutil.which("tritonserver") and not importlib.util.find_spec("pytriton"):
        pytest.skip("no NVIDIA Triton here: the `triton` extra brings one for Python below 3.13 on x86-64 Linux")
    return {"engine": "triton", "triton_grpc_port": str(free_port()), "triton_metrics_port": str(free_port())}


@pytest.fixture(scope="session")
def triton_gateway_url(triton_arguments: dict[str, str]) -> Iterator[str]:
    with running_gateway(**triton_arguments) as (url, _):
        yield url


@pytest.fixture(scope="session", params=["embedded", "triton"])
def engine_url(request: pytest.FixtureRequest) -> str:
    """The gateway, once on each engine."""
    name = {"embedded": "gateway_url", "triton": "triton_gateway_url"}[request.param]
    return str(request.getfixturevalue(name))


@pytest.fixture
def client(engine_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine_url, timeout=30) as client:
        yield client


@pytest.fixture
def tag(client: httpx.Client) -> Callable[..., httpx.Response]:
    """tag(bytes, **query) -> the gateway's response."""

    def post(photo: bytes, **query: object) -> httpx.Response:
        return client.post("/v1/tag", content=photo, params=query, headers={"Content-Type": "image/jpeg"})

    return post
