"""Fetching photos: from a real HTTP server on this machine, which only these tests are allowed to reach."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from serving.engines import create_engine
from serving.gateway.app import create_app
from serving.gateway.problems import GatewayError
from serving.gateway.requests.admission import Admission
from serving.gateway.requests.fetch import Fetcher, IPAddress
from serving.settings import load_settings
from tests.serving.photo_server import PHOTO, Photos, serving_photos


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving_photos() as port:
        yield port


@pytest.fixture
def fetcher(port: int) -> Fetcher:
    return Fetcher((f"localhost:{port}", f"127.0.0.1:{port}"), 2**20, 10, allows=lambda address: address.is_loopback)


def fetch(fetcher: Fetcher, url: str) -> bytes:
    return asyncio.run(fetcher.fetch(url, lambda count: None))


def fetch_with_names(fetcher: Fetcher, url: str, *answers: list[str]) -> bytes:
    """Fetch, with these addresses for the name in it: the first list the first time it is asked for, and so on."""
    left = iter(answers)

    async def resolve(name: str, port: int, **options: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(left)]

    async def attempt() -> bytes:
        asyncio.get_running_loop().getaddrinfo = resolve  # type: ignore[method-assign,assignment]
        return await fetcher.fetch(url, lambda count: None)

    return asyncio.run(attempt())


def refusal(fetcher: Fetcher, url: str) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        fetch(fetcher, url)
    assert caught.value.detail.endswith(".")
    assert not any(inside in caught.value.detail for inside in ("127.0.0.1", "localhost", "Errno", "httpcore"))
    return caught.value


@pytest.mark.parametrize("path", ["photo", "photo/of?sea=1&x=%20", "until_the_end"])
def test_a_photo_whatever_its_content_type(fetcher: Fetcher, port: int, path: str) -> None:
    assert fetch(fetcher, f"http://localhost:{port}/{path}") == PHOTO
    asked, headers = Photos.seen[-1]
    assert asked == f"/{path}"
    assert headers["Host"] == f"localhost:{port}"
    assert not {"Cookie", "Authorization", "X-API-Key"} & set(headers)


@pytest.mark.parametrize("hops", [1, 3])
def test_redirects_are_followed(fetcher: Fetcher, port: int, hops: int) -> None:
    url = "/photo"
    for _ in range(hops - 1):
        url = f"/moved?{url}"
    assert fetch(fetcher, f"http://localhost:{port}/moved?http://127.0.0.1:{port}{url}") == PHOTO


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("nothing", "url_not_fetched"),
        ("cut", "url_not_fetched"),
        ("nonsense", "url_not_fetched"),
        ("headers_for_ever", "url_not_fetched"),
        ("lost", "url_not_fetched"),
        ("loop", "url_not_fetched"),
        ("moved?http://[", "url_not_fetched"),
        ("large", "body_too_large"),
        ("moved?http://169.254.169.254/latest/meta-data/", "url_not_allowed"),
        ("moved?http://localhost:1/", "url_not_allowed"),
        ("moved?//example.org/", "url_not_allowed"),
        ("moved?file:///etc/passwd", "url_not_fetched"),
        ("moved?http://localhost:99999/", "url_not_fetched"),
        ("moved?http://user@localhost/", "url_not_fetched"),
    ],
)
def test_hosts_that_answer_badly(fetcher: Fetcher, port: int, path: str, code: str) -> None:
    assert refusal(fetcher, f"http://localhost:{port}/{path}").code == code


def test_a_slow_host_is_given_up(port: int) -> None:
    fetcher = Fetcher((f"localhost:{port}",), 2**20, 0.5, allows=lambda address: True)
    assert "0.5 seconds" in refusal(fetcher, f"http://localhost:{port}/slow").detail


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        fetcher = Fetcher((f"localhost:{port}", f"nowhere.invalid:{port}"), 2**20, 10, allows=lambda address: True)
        assert refusal(fetcher, f"http://localhost:{port}/").code == "url_not_fetched"
        assert refusal(fetcher, f"https://localhost:{port}/").code == "url_not_fetched"
        assert refusal(fetcher, f"http://nowhere.invalid:{port}/").code == "url_not_fetched"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="a certificate for this test needs openssl")
def test_https_needs_a_certificate_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    options = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving_photos(context) as port:
        fetcher = Fetcher((f"localhost:{port}", f"127.0.0.1:{port}"), 2**20, 10, allows=lambda address: True)
        assert (
            refusal(fetcher, f"https://localhost:{port}/photo").code == "url_not_fetched"
        )  # its certificate is self-signed
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(fetcher, f"https://localhost:{port}/photo") == PHOTO
        assert refusal(fetcher, f"https://127.0.0.1:{port}/photo").code == "url_not_fetched"  # of another name


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "photo.jpg",
            "localhost",
            "//localhost/",
            "ftp://localhost/",
            "file:///etc/passwd",
            "gopher://localhost/",
        ),
        *("http://", "http:///x", "http://user@localhost/", "http://localhost:0/", "http://localhost:99999/"),
        *("http://local host/", "http://localhost/\r\nX: 1", "http://localhost\\@example.org/", "http://exämple.org/"),
        *("http://[::1/", "http://[fe80::1%25eth0]/", "http://localhost/" + "x" * 3000),
    ],
)
def test_wrong_urls(fetcher: Fetcher, url: str) -> None:
    assert refusal(fetcher, url).code == "invalid_request"


@pytest.mark.parametrize(
    ("listed", "url", "allowed"),
    [
        ("a.org", "https://a.org/x", True),
        ("a.org", "http://A.ORG./x", True),
        ("A.org", "http://a.org:80/", True),
        ("a.org", "http://a.org:8080/", False),
        ("a.org", "http://a.org:443/", False),
        ("a.org:8080", "http://a.org:8080/", True),
        ("a.org:8080", "http://a.org/", False),
        ("a.org", "http://b.a.org/", False),
        ("*.a.org", "http://b.a.org/", True),
        ("*.a.org", "http://c.b.a.org/", True),
        ("*.a.org", "http://a.org/", False),
        ("*.a.org", "http://ba.org/", False),
        ("a.org", "http://a.org.evil.example/", False),
        ("a.org", "http://evil.example/a.org", False),
        ("[2001:db8::1]", "http://[2001:db8::1]/", True),
    ],
)
def test_which_hosts_are_listed(listed: str, url: str, allowed: bool) -> None:
    judged: list[IPAddress] = []
    fetcher = Fetcher((listed,), 2**20, 10, allows=lambda address: bool(judged.append(address)))
    with pytest.raises(GatewayError) as caught:
        fetch_with_names(fetcher, url, ["192.0.2.1"])
    assert caught.value.code == "url_not_allowed"
    assert bool(judged) == allowed  # a listed host comes as far as having its addresses judged


@pytest.mark.parametrize("url", ["http://localhost:{}/photo", "http://127.0.0.1:{}/photo", "http://[::1]:{}/photo"])
def test_a_listed_host_with_an_inner_address_is_not_fetched(port: int, url: str) -> None:
    before = len(Photos.seen)
    listed = tuple(f"{host}:{port}" for host in ("localhost", "127.0.0.1", "[::1]"))
    assert refusal(Fetcher(listed, 2**20, 10), url.format(port)).code == "url_not_allowed"
    assert len(Photos.seen) == before


def test_one_inner_address_among_others_is_enough(port: int) -> None:
    with pytest.raises(GatewayError) as caught:
        fetch_with_names(Fetcher(("a.org",), 2**20, 10), "http://a.org/photo", ["1.1.1.1", "127.0.0.1"])
    assert caught.value.code == "url_not_allowed"


def test_a_name_is_resolved_only_once(port: int) -> None:
    """DNS rebinding: what the name means the second time must not matter."""
    fetcher = Fetcher((f"a.org:{port}",), 2**20, 10, allows=lambda address: str(address) == "127.0.0.1")
    assert fetch_with_names(fetcher, f"http://a.org:{port}/photo", ["127.0.0.1"]) == PHOTO
    assert Photos.seen[-1][1]["Host"] == f"a.org:{port}"
    with pytest.raises(GatewayError):  # a redirect is another request, and is checked again
        fetch_with_names(fetcher, f"http://a.org:{port}/moved?/photo", ["127.0.0.1"], ["127.0.0.2"])


def test_fetched_bytes_count_as_uploaded_bytes(fetcher: Fetcher, port: int) -> None:
    admission = Admission(1, 1, len(PHOTO) - 1)
    with admission.place(60) as place, pytest.raises(GatewayError, match="As much is being uploaded"):
        asyncio.run(fetcher.fetch(f"http://localhost:{port}/photo", place.take_bytes))


@contextlib.asynccontextmanager
async def gateway(repository: Path, fetch_hosts: str) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """A gateway in this process, since only here a test may allow addresses of the inside."""
    settings = load_settings(repository=repository, fetch_hosts=fetch_hosts)
    engine = create_engine(settings)
    await engine.start()
    try:
        app = create_app(settings, engine)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            yield app, client
    finally:
        await engine.close()


def test_a_fetched_photo_is_tagged_like_an_uploaded_one(repository: Path, fetcher: Fetcher, port: int) -> None:
    async def attempt() -> tuple[httpx.Response, ...]:
        async with gateway(repository, f"localhost:{port}") as (app, client):
            url = {"url": f"http://localhost:{port}/photo"}
            elsewhere = await client.post("/v1/tag", json={"url": "https://example.org/photo.jpg"})
            inside = await client.post("/v1/tag", json=url)
            app.state.service.uploads.fetcher = fetcher
            return (
                elsewhere,
                inside,
                await client.post("/v1/tag", json=url),
                await client.post("/v1/tag", content=PHOTO),
            )

    elsewhere, inside, fetched, sent = asyncio.run(attempt())
    for refused in (elsewhere, inside):
        assert (refused.status_code, refused.json()["code"]) == (422, "url_not_allowed")
    assert fetched.status_code == 200, fetched.text
    assert fetched.json()["tags"] == sent.json()["tags"]


def test_it_is_off_by_default(repository: Path, port: int) -> None:
    async def attempt() -> httpx.Response:
        async with gateway(repository, "") as (_, client):
            return await client.post("/v1/tag", json={"url": f"http://localhost:{port}/photo"})

    before = len(Photos.seen)
    assert asyncio.run(attempt()).status_code == 415
    assert len(Photos.seen) == before
