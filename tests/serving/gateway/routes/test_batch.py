"""POST /v1/tag:batch, on both engines: each photo gets the answer of /v1/tag, also beside broken photos."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT, running_gateway
from tests.polling import PATIENCE
from tests.serving.bad_images import BROKEN_PROFILE, BROKEN_PROFILE_NOTE, REFUSED
from tests.serving.gateway.routes.test_tag import assert_problem
from tests.serving.raw_http import PHOTO

Tag = Callable[..., httpx.Response]

PHOTOS = sorted((ROOT / "tests/assets/photos").glob("*.jpg"))


def as_json(photos: dict[str, bytes]) -> dict[str, object]:
    return {"images": [{"id": id, "data": base64.b64encode(data).decode()} for id, data in photos.items()]}


def as_form(photos: list[tuple[str | None, bytes]]) -> list[tuple[str, tuple[str | None, bytes, str]]]:
    return [("files", (name, data, "image/jpeg")) for name, data in photos]


def test_a_batch_answers_each_photo_as_tag_does(client: httpx.Client, tag: Tag) -> None:
    query = {"scores": "all", "threshold": "sea:0.1", "exclude": "desert", "top_k": 2}
    photos = {photo.name: photo.read_bytes() for photo in PHOTOS}
    answer = client.post("/v1/tag:batch", json=as_json(photos), params=query)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["model"], body["version"]) == ("scenes", 1)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert [result["id"] for result in body["results"]] == [photo.name for photo in PHOTOS]
    for result, photo in zip(body["results"], photos.values(), strict=True):
        alone = tag(photo, **query).json()
        for kind in ("tags", "scores"):
            assert [entry["label"] for entry in result[kind]] == [entry["label"] for entry in alone[kind]]
            for found, expected in zip(result[kind], alone[kind], strict=True):
                assert found["score"] == pytest.approx(expected["score"], abs=1e-5)
                assert found["threshold"] == expected["threshold"]


def test_notes_are_with_their_photo(client: httpx.Client) -> None:
    body = as_json({"first": PHOTO, "broken profile": BROKEN_PROFILE, "last": PHOTO})
    results = client.post("/v1/tag:batch", json=body).json()["results"]
    assert [result.get("notes") for result in results] == [None, [BROKEN_PROFILE_NOTE], None]
    assert all("tags" in result for result in results)


def test_one_bad_photo_never_fails_the_others(client: httpx.Client) -> None:
    photos = {name: data for name, (data, _, _) in REFUSED.items()}
    photos = {"first": PHOTO} | photos | {"last": PHOTO}
    body = as_json(photos)
    body["images"].insert(1, {"id": "no base64", "data": "/9j/4AAQ*"})  # type: ignore[attr-defined]
    results = client.post("/v1/tag:batch", json=body).json()["results"]
    assert [result["id"] for result in results] == ["first", "no base64", *REFUSED, "last"]
    expected = {name: (status, code) for name, (_, status, code) in REFUSED.items()}
    expected["no base64"] = (422, "image_not_base64")
    for result in results[1:-1]:
        error = result["error"]
        assert (error["status"], error["code"]) == expected[result["id"]]
        assert error["title"]
        assert error["detail"].endswith(".")
        assert "tags" not in result
    assert results[0]["tags"] == results[-1]["tags"] != []


def test_a_batch_of_only_bad_photos(client: httpx.Client) -> None:
    results = client.post("/v1/tag:batch", files=as_form([("a", b"x"), ("b", b"")])).json()["results"]
    assert [(result["id"], result["error"]["code"]) for result in results] == [
        ("a", "image_format_unsupported"),
        ("b", "image_empty"),
    ]


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a.jpg", "b.jpg"], ["a.jpg", "b.jpg"]),
        (["a.jpg", "a.jpg"], ["0", "1"]),
        (["1", None], ["0", "1"]),
        (["größe 1.jpg", "x"], ["größe 1.jpg", "x"]),
    ],
)
def test_ids_are_the_names_of_a_forms_files(client: httpx.Client, names: list[str | None], ids: list[str]) -> None:
    answer = client.post("/v1/tag:batch", files=as_form([(name, PHOTO) for name in names]))
    assert [result["id"] for result in answer.json()["results"]] == ids
    assert all(result["tags"] for result in answer.json()["results"])


def test_more_photos_than_the_model_takes_at_once(client: httpx.Client) -> None:
    photos = {str(number): PHOTOS[number % len(PHOTOS)].read_bytes() for number in range(40)}
    results = client.post("/v1/tag:batch", json=as_json(photos), params={"scores": "all"}, timeout=PATIENCE).json()[
        "results"
    ]
    assert [result["id"] for result in results] == list(photos)
    for number, result in enumerate(results[len(PHOTOS) :], len(PHOTOS)):
        for found, expected in zip(result["scores"], results[number % len(PHOTOS)]["scores"], strict=True):
            assert found["label"] == expected["label"]
            assert found["score"] == pytest.approx(expected["score"], abs=1e-5)


GOOD = {"id": "a", "data": base64.b64encode(PHOTO).decode()}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_body"),
        (b"{", 400, "malformed_body"),
        (b'{"images": "\xff"}', 400, "malformed_body"),
        (b"[" * 100_000, 400, "malformed_body"),
        (json.dumps([GOOD]).encode(), 422, "invalid_request"),
        (json.dumps({"images": []}).encode(), 422, "invalid_request"),
        (json.dumps({"images": {}}).encode(), 422, "invalid_request"),
        (json.dumps({"images": [GOOD], "model": "scenes"}).encode(), 422, "invalid_request"),
        (json.dumps({"images": [GOOD | {"url": "http://a"}]}).encode(), 422, "invalid_request"),
        (json.dumps({"images": [GOOD | {"id": 7}]}).encode(), 422, "invalid_request"),
        (json.dumps({"images": [GOOD | {"id": ""}]}).encode(), 422, "invalid_request"),
        (json.dumps({"images": [{"id": "a"}]}).encode(), 422, "invalid_request"),
        (json.dumps({"images": [GOOD, GOOD]}).encode(), 422, "invalid_request"),
        (json.dumps({"images": [GOOD | {"id": str(n)} for n in range(65)]}).encode(), 413, "too_many_images"),
        (b'{"images": [' + b"1," * 1_000_000 + b"1]}", 413, "too_many_images"),
    ],
)  # fmt: skip
def test_wrong_json(client: httpx.Client, body: bytes, status: int, code: str) -> None:
    headers = {"Content-Type": "application/json"}
    assert_problem(client.post("/v1/tag:batch", content=body, headers=headers), status, code)


def form(*parts: bytes, end: bytes = b"--x--\r\n") -> bytes:
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + end


FILE = b'Content-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + PHOTO
OTHER = b'Content-Disposition: form-data; name="other"\r\n\r\nx'


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_body"),
        (b"nonsense", 400, "malformed_body"),
        (form(), 400, "malformed_body"),
        (form(OTHER), 400, "malformed_body"),
        (form(FILE.replace(b'; filename="a"', b"")), 400, "malformed_body"),  # a text field
        (form(FILE, FILE.replace(b'; filename="a"', b"")), 400, "malformed_body"),  # which must not go missing
        (form(FILE, end=b""), 400, "malformed_body"),  # cut off
        (form(FILE)[:-3], 400, "malformed_body"),
        (form(b"No-Disposition: x\r\n\r\nx", FILE), 400, "malformed_body"),
        (form(b"Content-Disposition: form-data; name=files\r\n" + b"A: b\r\n" * 99 + b"\r\nx"), 400, "malformed_body"),
        (form(b"A" * 30_000 + b": b\r\n\r\nx"), 400, "malformed_body"),
        (form(FILE, *[OTHER] * 65), 400, "malformed_body"),
        (form(*[OTHER] * 10_000), 400, "malformed_body"),
        (form(*[FILE[:90]] * 65), 413, "too_many_images"),
        (form(*[FILE[:90]] * 10_000), 413, "too_many_images"),
    ],
)  # fmt: skip
def test_wrong_forms(client: httpx.Client, body: bytes, status: int, code: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert_problem(client.post("/v1/tag:batch", content=body, headers=headers), status, code)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 300])
def test_forms_without_a_boundary(client: httpx.Client, kind: str) -> None:
    assert_problem(
        client.post("/v1/tag:batch", content=form(FILE), headers={"Content-Type": kind}), 400, "malformed_body"
    )


def test_other_content_types(client: httpx.Client) -> None:
    for kind in ("image/jpeg", "text/plain", "application/x-www-form-urlencoded", "nonsense"):
        answer = client.post("/v1/tag:batch", content=PHOTO, headers={"Content-Type": kind})
        assert_problem(answer, 415, "content_type_unsupported")
    assert_problem(client.post("/v1/tag:batch", content=PHOTO), 415, "content_type_unsupported")


def test_limits_of_a_batch(tmp_path: Path) -> None:
    limits = {"max_images": "2", "max_pending_images": "2", "max_body": "300000", "max_batch_body": "500000"}
    with running_gateway(**limits) as (url, _), httpx.Client(base_url=url, timeout=PATIENCE) as client:
        batch = as_form([("a", PHOTO)] * 3)
        assert_problem(client.post("/v1/tag:batch", files=batch), 413, "too_many_images")
        assert_problem(client.post("/v1/tag:batch", files=as_form([("a", bytes(600_000))])), 413, "body_too_large")
        large = client.post("/v1/tag:batch", files=as_form([("a", bytes(300_001)), ("b", PHOTO)])).json()["results"]
        assert large[0]["error"]["code"] == "body_too_large"
        assert large[1]["tags"]
        assert client.post("/v1/tag", content=PHOTO).status_code == 200
