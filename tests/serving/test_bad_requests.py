"""Requests that no library would send: each gets the right answer, and the gateway keeps running."""

import base64
import json

import pytest

from tests.serving.raw_http import PHOTO, assert_well, exchange

Headers = tuple[tuple[str, str], ...]

MIXED: Headers = (("Content-Type", "multipart/mixed; boundary=x"),)
FORM: Headers = (("Content-Type", "multipart/form-data; boundary=x"),)
JSON: Headers = (("Content-Type", "application/json"),)
BASE64 = base64.b64encode(PHOTO)


def request(path: str, body: bytes = PHOTO, headers: Headers = (), method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def form(disposition: bytes, body: bytes = PHOTO) -> bytes:
    return b"--x\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + body + b"\r\n--x--\r\n"


def images(*entries: bytes) -> bytes:
    return b'{"images":[' + b",".join(entries) + b"]}"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (request("/v1/tag?labels=%00"), 422, "invalid_request"),
        (request("/v1/tag?labels=%ff"), 422, "invalid_request"),
        (request("/v1/tag?labels"), 422, "invalid_request"),
        (request("/v1/tag?labels=" + "a,b,c,d,e,f,g,h," * 2000), 422, "invalid_request"),
        (request("/v1/tag?version=" + "9" * 30), 404, "unknown_model"),
        (request("/v1/tag?version=" + "9" * 5000), 422, "invalid_request"),
        (request("/v1/tag?top_k=" + "9" * 40), 200, ""),
        (request("/v1/tag?labels=sea&labels=sea"), 422, "invalid_request"),
        (request("/v1/tag?scores=all&scores=all"), 422, "invalid_request"),
        (request("/v1/embed?labels=sea&labels=trees"), 422, "invalid_request"),
        (request("/v1/tag", headers=(("Content-Type", ";;;="),)), 200, ""),
        (request("/v1/tag", headers=(("Content-Encoding", "gzip"),)), 415, "content_type_unsupported"),
        (request("/v1/tag", headers=(("X-Request-Timeout", "5"), ("X-Request-Timeout", "6"))), 422, "invalid_request"),
        (request("/v1/tag", headers=MIXED), 415, "content_type_unsupported"),
        (request("/v1/explain", headers=(("Accept", "\xff;;q=,,, */ ;q=9"),)), 200, ""),
        (request("/v1/explain", headers=(("Accept", "a/b;q=0.1," * 2000),)), 200, ""),
        (request("/v1/tag/"), 404, "not_found"),
        (request("//v1/tag"), 404, "not_found"),
        (request("/v1/models/..%2f..%2fetc", b"", method="GET"), 404, "not_found"),
        (request("/v1/models/%00%0a", b"", method="GET"), 404, "unknown_model"),
        (request("/v1/embed", method="PUT"), 405, "method_not_allowed"),
        (request("/v1/tag:batch", b"\xef\xbb\xbf" + images(), JSON), 400, "malformed_body"),
        (request("/v1/tag:batch", images().decode().encode("utf-16"), JSON), 400, "malformed_body"),
        (request("/v1/tag:batch", b'{"images":NaN}', JSON), 422, "invalid_request"),
        (request("/v1/tag:batch", images(b'{"id":"\\ud83d","data":""}'), JSON), 400, "malformed_body"),
        (request("/v1/tag:batch", b'{"images":' + b"[" * 5000 + b"]" * 5000 + b"}", JSON), 400, "malformed_body"),
        (request("/v1/tag", b"hello\r\n" + form(b'name="file"; filename="a"'), FORM), 400, "malformed_body"),
        (request("/v1/tag", form(b'name=""; filename="a"'), FORM), 400, "malformed_body"),
        (request("/v1/tag", form(b'name="file"; filename="a"').replace(b"\r\n", b"\n"), FORM), 400, "malformed_body"),
        (request("/v1/tag", form(b'name="file"; filename="a"') + b"bye bye", FORM), 200, ""),
        (request("/v1/tag%3Abatch", form(b'name="files"; filename="a"'), FORM), 200, ""),
    ],
)  # fmt: skip
def test_odd_requests(gateway_url: str, sent: bytes, status: int, code: str) -> None:
    head, _, body = exchange(gateway_url, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), body
    assert len(body) < 2000 or status == 200
    assert json.loads(body).get("code", "") == code
    assert_well(gateway_url)


@pytest.mark.parametrize(
    ("disposition", "id"),
    [
        (b'name="files"; filename="../../etc/passwd"', "../../etc/passwd"),  # a name, never opened
        (b'name="files"; filename="\xe9\xff.jpg"', "��.jpg"),
        (b'name="files"; filename="a\\"b;c.jpg"', 'a"b;c.jpg'),
        (b'name="files"; filename=""', "0"),
        (b"name=\"files\"; filename*=UTF-8''%e2%82%ac.jpg", "0"),  # RFC 7578 forbids this in forms, but clients send it
    ],
)
def test_odd_file_names(gateway_url: str, disposition: bytes, id: str) -> None:
    body = exchange(gateway_url, request("/v1/tag:batch", form(disposition), FORM)).partition(b"\r\n\r\n")[2]
    (result,) = json.loads(body)["results"]
    assert result["id"] == id
    assert result["tags"]


@pytest.mark.parametrize("data", [b"_-__", b"data:image/jpeg;base64," + BASE64, BASE64 + b"\\n", BASE64 + b"=", b"A"])
def test_wrong_base64_fails_only_its_own_photo(gateway_url: str, data: bytes) -> None:
    body = images(b'{"id":"odd","data":"' + data + b'"}', b'{"id":"\\u0000\\n","data":"' + BASE64 + b'"}')
    answer = exchange(gateway_url, request("/v1/tag:batch", body, JSON)).partition(b"\r\n\r\n")[2]
    odd, good = json.loads(answer)["results"]
    assert odd["error"]["code"] == "image_not_base64"
    assert (good["id"], good["tags"][0]["label"]) == ("\0\n", "sunset")
