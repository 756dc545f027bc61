"""Requests for no body, or for a part of one."""

import httpx
import pytest

READABLE = ("/", "/docs", "/v1/models", "/v1/models/scenes", "/v2/health/live", "/v2/health/ready", "/metrics")


@pytest.mark.parametrize("path", [*READABLE, "/page/app.js", "/openapi.json"])
def test_head_is_get_without_the_body(gateway_url: str, path: str) -> None:
    """As `curl -I` and many probes ask."""
    head, get = httpx.head(gateway_url + path), httpx.get(gateway_url + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":  # grows with each request
        assert head.headers["content-length"] == get.headers["content-length"]


def test_head_where_get_is_not_answered(gateway_url: str) -> None:
    assert httpx.head(f"{gateway_url}/v1/tag").headers["allow"] == "POST"
    assert httpx.head(f"{gateway_url}/nowhere").status_code == 404


def test_head_is_counted_as_what_it_asked_for(gateway_url: str) -> None:
    httpx.head(f"{gateway_url}/v2/health/live")
    assert 'labelwise_requests_total{route="/v2/health/live",status="200"}' in httpx.get(f"{gateway_url}/metrics").text


@pytest.mark.parametrize("asked", ["bytes=0-9", "bytes=zz", "bytes=999999-", "items=1-2"])
@pytest.mark.parametrize("path", ["/", "/page/app.js", "/docs/assets/favicon-32x32.png"])
def test_files_are_sent_whole(gateway_url: str, path: str, asked: str) -> None:
    answer = httpx.get(gateway_url + path, headers={"Range": asked})
    assert answer.status_code == 200
    assert "accept-ranges" not in answer.headers
    assert httpx.get(gateway_url + path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
