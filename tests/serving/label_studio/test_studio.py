"""Label Studio's API and its photos: both kinds of tokens, and where a token never goes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from serving.errors import PhotoError
from serving.label_studio.errors import ServiceError
from serving.label_studio.studio import LabelStudio
from serving.label_studio.task_photos import TaskPhotos, _is_photo_of
from tests.serving.label_studio.studio_server import CONFIG, LEGACY, PERSONAL, PHOTOS, Studio, annotated, running_studio
from tests.serving.label_studio.studio_server import upload as uploaded
from tests.serving.photo_server import PHOTO, Photos, serving_photos

COFFEE = "coffee-cup.jpg"


@pytest.fixture
def studio() -> Iterator[tuple[str, type[Studio]]]:
    with running_studio(annotated(COFFEE, ["Sea"])) as running:
        yield running


def ask(url: str, token: str, act: Callable[[LabelStudio], Awaitable[Any]]) -> Any:
    async def asking() -> Any:
        studio = LabelStudio(url, token)
        try:
            return await act(studio)
        finally:
            await studio.close()

    return asyncio.run(asking())


def fetch(url: str, photo: object, *hosts: str, token: str = LEGACY) -> bytes | PhotoError:
    found: bytes | PhotoError = ask(url, token, lambda studio: TaskPhotos(studio, hosts).fetch(photo))
    return found


@pytest.mark.parametrize("token", [LEGACY, PERSONAL, f"{PERSONAL}\n"])
def test_both_kinds_of_tokens(studio: tuple[str, type[Studio]], token: str) -> None:
    url, seen = studio

    async def look(api: LabelStudio) -> tuple[str, list[Any]]:
        return await api.config(1), await api.annotated_tasks(1)

    config, tasks = ask(f"{url}/", token, look)
    assert config == CONFIG
    assert [task.data for task in tasks] == [{"image": uploaded(COFFEE)}]
    assert fetch(url, uploaded(COFFEE), token=token) == (PHOTOS / COFFEE).read_bytes()
    refreshed = [path for path, _ in seen.seen if path == "/api/token/refresh/"]
    assert len(refreshed) == (0 if token == LEGACY else 2)  # once for each client, which asked two times


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("f" * 40, r"refuses the token: Authentication token no longer valid: legacy token"),
        (f"{PERSONAL}x", r"refuses the token: Token is invalid or expired\."),
    ],
)
def test_a_refused_token_is_one_line(studio: tuple[str, type[Studio]], token: str, words: str) -> None:
    with pytest.raises(ServiceError, match=words) as caught:
        ask(studio[0], token, lambda api: api.annotated_tasks(1))
    assert not caught.value.is_temporary
    assert token not in str(caught.value)
    found = fetch(studio[0], uploaded(COFFEE), token=token)
    assert isinstance(found, PhotoError)


def test_a_backend_named_as_a_version_takes_the_name_of_the_newest(studio: tuple[str, type[Studio]]) -> None:
    url, server = studio
    titles = ["everyday 1", "everyday", "scenes 1", "everyday 10 x", "everyday 3"]
    server.backends = [{"id": place, "title": title, "url": "http://b"} for place, title in enumerate(titles)]
    ask(url, LEGACY, lambda api: api.name_backend(1, "everyday", "everyday 3"))
    assert [each["title"] for each in server.backends] == ["everyday 3", *titles[1:]]


def test_what_is_not_there(studio: tuple[str, type[Studio]]) -> None:
    with pytest.raises(ServiceError, match=r"answers /api/projects/7 with 404: Not found\."):
        ask(studio[0], LEGACY, lambda api: api.config(7))
    with pytest.raises(ServiceError, match="does not answer") as caught:
        ask("http://127.0.0.1:9", LEGACY, lambda api: api.config(1))
    assert caught.value.is_temporary
    assert fetch(studio[0], uploaded("none.jpg")) == PhotoError("url_not_fetched", "The host answered with status 404.")
    assert fetch(studio[0], 7) == PhotoError("invalid_request", "The task names no photo.")


@pytest.mark.parametrize(
    "path",
    [
        "/api/projects/1",
        "/data/../api/projects/1",
        "/data/%2e%2e/api/projects/1",
        "/data/..%2fapi/projects/1",
        "/data\\..\\api/projects/1",
        "data",
        "//127.0.0.1:9/data/upload/1/x.jpg",
    ],
)
def test_the_token_goes_only_where_label_studio_has_photos(studio: tuple[str, type[Studio]], path: str) -> None:
    url, seen = studio
    found = fetch(url, path)
    assert isinstance(found, PhotoError)
    assert seen.seen == []


def test_other_programs_beside_a_label_studio_under_a_path_get_no_token() -> None:
    for studio, url, may in (
        ("https://a.org/ls", "https://a.org/ls/data/upload/1/x.jpg", True),
        ("https://a.org/l%20s", "https://a.org/l%20s/data/upload/1/x.jpg", True),
        ("https://a.org/ls", "https://a.org/data/upload/1/x.jpg", False),
        ("https://a.org/ls", "https://a.org/other/ls/data/x.jpg", False),
        ("https://a.org/ls", "https://a.org/lsx/data/x.jpg", False),
    ):
        assert _is_photo_of(studio, url) is may, url


def test_other_hosts_are_refused_unless_they_are_allowed_and_public(studio: tuple[str, type[Studio]]) -> None:
    with serving_photos() as port:
        before = len(Photos.seen)
        for hosts in ((), (f"127.0.0.1:{port}",)):  # this machine's address is not public
            found = fetch(studio[0], f"http://127.0.0.1:{port}/photo", *hosts)
            assert isinstance(found, PhotoError)
            assert found.code == "url_not_allowed"
            assert "--photos-from" in found.detail
        assert len(Photos.seen) == before


def test_a_redirect_of_label_studio_does_not_take_the_token_along() -> None:
    """As to a bucket: `own` is for the first request only."""
    from serving.gateway.requests.fetch import Fetcher

    with serving_photos() as port:
        fetcher = Fetcher((f"localhost:{port}",), 2**20, 10, allows=lambda address: address.is_loopback)
        url = f"http://127.0.0.1:{port}/moved?http://localhost:{port}/photo"
        assert asyncio.run(fetcher.fetch(url, lambda _: None, {"Authorization": "Token secret"})) == PHOTO
        (_, first), (_, second) = Photos.seen[-2:]
        assert first["Authorization"] == "Token secret"
        assert "Authorization" not in second


def test_without_label_studio_an_upload_says_what_is_missing() -> None:
    found = asyncio.run(TaskPhotos(None, ()).fetch(uploaded(COFFEE)))
    assert isinstance(found, PhotoError)
    assert "--label-studio-url" in found.detail
