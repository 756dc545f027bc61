"""The answers to an internal error, and to a request that the end of the server cuts off."""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest
from fastapi import Request

from serving.engines import create_engine
from serving.gateway.app import create_app
from serving.settings import Settings
from tests.conftest import running_gateway
from tests.serving.raw_http import PHOTO, connect, read_what_comes


def test_an_internal_error_has_a_request_id_and_is_counted(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(repository=repository)
    app = create_app(settings, create_engine(settings))

    @app.get("/fault")
    async def fault(request: Request) -> None:
        raise ZeroDivisionError("a secret")

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.get("/fault"), await client.get("/metrics")

    answer, metrics = asyncio.run(ask())
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "secret" not in answer.text
    assert 'labelwise_problems_total{code="internal"} 1.0' in metrics.text
    assert "ZeroDivisionError" in caplog.text


def test_a_request_cut_off_by_the_end_of_the_server_gets_503() -> None:
    with running_gateway(shutdown_timeout="1") as (url, process), connect(url) as connection:
        head = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(PHOTO)
        connection.sendall(head + PHOTO[:100])
        assert httpx.get(f"{url}/v2/health/live").status_code == 200  # the request before has arrived by now
        process.send_signal(signal.SIGTERM)
        answer = read_what_comes(connection)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"shutting_down"' in answer
    assert b"retry-after: 2" in answer
