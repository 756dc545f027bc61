"""Photos in a body: whole ones are read, and what is not one, or takes the parser too long, is refused."""

import pytest

from serving.gateway.problems import GatewayError
from serving.gateway.requests import forms
from serving.gateway.requests.forms import form_files, json_url

TYPE = "multipart/form-data; boundary=x"


def form(content: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + content + b"\r\n--x--\r\n"


def test_a_form_that_is_read_in_pieces_is_whole() -> None:
    content = bytes(range(256)) * 20_000  # larger than a piece
    assert form_files(form(content), TYPE, "file", 1) == [("a", content)]


def test_a_form_that_takes_the_parser_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"\r\n--x\ry" * 400_000  # a boundary seems to begin at each of them
    assert form_files(form(content), TYPE, "file", 1) == [("a", content)]
    monkeypatch.setattr(forms, "_MOST_SECONDS", 0.01)
    with pytest.raises(GatewayError, match="cannot be read") as refused:
        form_files(form(content), TYPE, "file", 1)
    assert refused.value.code == "malformed_body"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_body"),
        (b"{", "malformed_body"),
        (b"\xff", "malformed_body"),
        (b"[" * 100_000, "malformed_body"),
        (b"[]", "invalid_request"),
        (b"{}", "invalid_request"),
        (b'{"url": 1}', "invalid_request"),
        (b'{"url": "http://localhost/", "headers": {}}', "invalid_request"),
    ],
)
def test_json_that_names_no_url(body: bytes, code: str) -> None:
    with pytest.raises(GatewayError) as caught:
        json_url(body)
    assert caught.value.code == code
