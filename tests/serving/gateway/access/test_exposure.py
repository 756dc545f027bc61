"""What a stranger can reach: addresses, host names, pages of other sites, headers, files and the disk."""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from labelwise.errors import LabelwiseError
from serving.gateway.access.exposure import check_exposure, is_loopback
from serving.settings import load_settings
from tests.conftest import ROOT, running_gateway
from tests.polling import PATIENCE
from tests.serving.gateway.conftest import Ended, assert_one_line

PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()


@pytest.fixture(scope="module")
def client(gateway_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway_url) as client:
        yield client


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "192.168.1.7", "203.0.113.1"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "a" * 300, "127.0.0.1:80", "http://localhost"])
def test_a_host_that_is_not_an_address(host: str) -> None:
    with pytest.raises(LabelwiseError, match=r"Cannot listen on .* --host"):
        check_exposure(load_settings(host=host, insecure_no_keys=True))


def test_listening_beyond_this_machine_needs_keys_or_the_option(serve: Callable[..., Ended]) -> None:
    assert_one_line(serve("--host", "0.0.0.0"), "0.0.0.0", "--keys FILE", "--insecure-no-keys")
    with running_gateway("--host", "0.0.0.0", "--insecure-no-keys") as (url, _):
        # Whoever it serves may call it what they like.
        assert httpx.get(f"{url}/v1/models", headers={"Host": "tags.example.org"}).status_code == 200


def test_teaching_from_other_machines_needs_keys() -> None:
    with pytest.raises(LabelwiseError, match=r"could teach without a key: add --keys FILE .*leave out --teach"):
        check_exposure(load_settings(host="0.0.0.0", insecure_no_keys=True, teach=True))
    check_exposure(load_settings(teach=True))


def test_a_missing_key_file(tmp_path: Path) -> None:
    with pytest.raises(LabelwiseError, match=r"no key file .* `labelwise keys add"):
        check_exposure(load_settings(keys=tmp_path / "none"))


@pytest.mark.parametrize(
    ("name", "value"), [("cors_origins", "https://a.example/path"), ("max_connections", 0), ("fetch_hosts", "a b")]
)
def test_wrong_settings(name: str, value: object) -> None:
    with pytest.raises(LabelwiseError, match=name):
        load_settings(**{name: value})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:1", "[::1]:8000", "192.168.0.9"])
def test_host_names_of_this_machine(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
def test_other_host_names_are_refused(client: httpx.Client, host: str) -> None:
    for path in ("/", "/v1/models", "/metrics"):
        response = client.get(path, headers={"Host": host})
        assert (response.status_code, response.json()["code"]) == (421, "misdirected_request")
        assert response.json()["request_id"] == response.headers["x-request-id"]


def test_pages_of_other_sites_cannot_read_answers(client: httpx.Client) -> None:
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for response in (
        client.get("/v1/models", headers={"Origin": "https://evil.example"}),
        client.options("/v1/tag", headers=preflight),
    ):
        assert not any(name.startswith("access-control") for name in response.headers)


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200), (None, 200)]
)
def test_pages_of_other_sites_cannot_send_photos(client: httpx.Client, site: str | None, status: int) -> None:
    headers = {"Sec-Fetch-Site": site, "Origin": "https://evil.example"} if site else {}
    response = client.post("/v1/tag", files={"file": PHOTO}, headers=headers)
    assert response.status_code == status
    if status == 403:
        assert response.json()["code"] == "cross_origin"
    assert client.get("/", headers=headers).status_code == 200  # a link to the page still works


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://tags.lan:8000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://10.0.0.7:8000", "Host": "10.0.0.7:8000"}, 200),
        ({"Origin": "http://10.0.0.7:9000", "Host": "10.0.0.7:8000"}, 403),
        ({"Origin": "http://tags.lan", "X-Forwarded-Host": "tags.lan"}, 200),
    ],
)
def test_over_plain_http_a_page_is_known_by_its_origin(
    client: httpx.Client, headers: dict[str, str], status: int
) -> None:
    assert client.post("/v1/tag", content=PHOTO, headers=headers).status_code == status


def test_listed_pages_and_host_names(tmp_path: Path) -> None:
    settings = {"cors_origins": "https://a.example, https://b.example:8443", "allowed_hosts": "tags.example.org"}
    with running_gateway(**settings) as (url, _):
        good = httpx.get(f"{url}/v1/models", headers={"Origin": "https://b.example:8443", "Host": "tags.example.org"})
        assert good.headers["access-control-allow-origin"] == "https://b.example:8443"
        assert "access-control-allow-credentials" not in good.headers
        assert "X-Request-ID" in good.headers["access-control-expose-headers"]
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        assert httpx.options(f"{url}/v1/tag", headers=ask | {"Origin": "https://a.example"}).status_code == 200
        sent_by = {"Origin": "https://a.example", "Sec-Fetch-Site": "cross-site"}
        assert httpx.post(f"{url}/v1/tag", content=PHOTO, headers=sent_by).status_code == 200
        for origin in ("https://c.example", "http://a.example", "https://b.example", "null"):
            answer = httpx.get(f"{url}/v1/models", headers={"Origin": origin})
            assert "access-control-allow-origin" not in answer.headers
        assert httpx.get(f"{url}/v1/models", headers={"Host": "other.example.org"}).status_code == 421


@pytest.mark.parametrize("path", ["/", "/docs", "/page/app.js", "/page/docs.js", "/page/style.css"])
def test_headers_of_the_page(client: httpx.Client, path: str) -> None:
    headers = client.get(path).raise_for_status().headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v2/health/live", "/metrics", "/openapi.json", "/nothing", "/docs/assets/"]
)
def test_headers_of_every_answer(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/page/__init__.py",
        "/page/__pycache__/",
        "/page/",
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/..%2fapp.py",
    ],
)
def test_only_the_page_is_served_from_its_folder(client: httpx.Client, path: str) -> None:
    request = client.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())  # as it is, not tidied up
    assert client.send(request).status_code == 404


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux sets another process's limits")
def test_uploads_never_touch_the_disk(tmp_path: Path) -> None:
    large = PHOTO + bytes(10 * 2**20)
    with running_gateway() as (url, process):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))  # from here on, writing to any file fails
        assert httpx.post(f"{url}/v1/tag", content=large, timeout=PATIENCE).status_code == 200
        assert httpx.post(f"{url}/v1/tag", files={"file": large}, timeout=PATIENCE).status_code == 200
    control = f"""
import pathlib, resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
pathlib.Path({str(tmp_path / "photo")!r}).write_bytes(b"x")
"""
    assert "File too large" in subprocess.run([sys.executable, "-c", control], capture_output=True, text=True).stderr
