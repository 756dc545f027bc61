"""The form of a lesson: what is kept of it, and what is refused whatever it is called and however it is cut."""

from pathlib import Path

import pytest

from serving.gateway.problems import GatewayError
from serving.gateway.requests import forms
from serving.gateway.requests.lesson_form import LessonForm, SentPhoto

TYPE = "multipart/form-data; boundary=x"
LABEL = ('name="label"', b"helmet")


def file(field: str, name: str, content: bytes = b"photo") -> tuple[str, bytes]:
    return f'name="{field}"; filename="{name}"', content


def body(*parts: tuple[str, bytes]) -> bytes:
    heads = [f"--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() for disposition, _ in parts]
    return b"".join(head + content + b"\r\n" for head, (_, content) in zip(heads, parts, strict=True)) + b"--x--\r\n"


def read(content: bytes, folder: Path, step: int = 10_000, most_photos: int = 3) -> LessonForm:
    form = LessonForm(TYPE, folder, most_photos, most_bytes=1000)
    try:
        for start in range(0, len(content), step):
            form.feed(content[start : start + step])
        form.finish()
    finally:
        form.close()
    return form


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_names_are_no_paths_and_pieces_may_be_cut_anywhere(step: int, tmp_path: Path) -> None:
    sent = [file("yes", "../../a.jpg"), file("no", "/etc/passwd", bytes(range(256))), file("yes", ""), LABEL]
    form = read(body(*sent), tmp_path, step)
    assert form.label == "helmet"
    assert not form.from_feedback
    assert form.photos == [SentPhoto("yes", "../../a.jpg"), SentPhoto("no", "/etc/passwd"), SentPhoto("yes", "photo 2")]
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {"0": b"photo", "1": bytes(range(256)), "2": b"photo"}


def test_with_feedback_no_photo_is_needed(tmp_path: Path) -> None:
    assert read(body(LABEL, ('name="from_feedback"', b"true")), tmp_path).from_feedback


BOTH = (file("yes", "a"), file("no", "b"))


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        (BOTH, "invalid_request"),
        ((('name="label"', b" "), *BOTH), "invalid_request"),
        ((('name="label"', b"a\0b"), *BOTH), "invalid_request"),
        ((('name="label"', "größe".encode("latin-1")), *BOTH), "invalid_request"),
        ((('name="label"', b"a" * 2000), *BOTH), "invalid_request"),
        ((LABEL, LABEL, *BOTH), "invalid_request"),
        ((LABEL, BOTH[0]), "invalid_request"),
        ((LABEL, *BOTH, ('name="from_feedback"', b"yes")), "invalid_request"),
        ((LABEL, *BOTH, ('name="files"', b"")), "invalid_request"),
        ((LABEL, *BOTH, ('name="yes"', b"text")), "malformed_body"),
        ((LABEL, *BOTH, ('filename="a"', b"text")), "malformed_body"),
        ((LABEL, *BOTH, (f'name="yes"; filename="{"a" * 20_000}"', b"")), "malformed_body"),
        ((LABEL, *BOTH, *BOTH), "too_many_images"),
        ((LABEL, *BOTH, file("yes", "c", bytes(1001))), "body_too_large"),
    ],
)
def test_other_forms_are_refused(parts: list[tuple[str, bytes]], code: str, tmp_path: Path) -> None:
    with pytest.raises(GatewayError) as refused:
        read(body(*parts), tmp_path)
    assert refused.value.code == code
    assert refused.value.detail.endswith(".")


@pytest.mark.parametrize("content", [b"", b"--x", b"hello", body(LABEL, *BOTH)[:-6]])
def test_what_is_no_form_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(GatewayError) as refused:
        read(content, tmp_path)
    assert refused.value.code == "malformed_body"


def test_a_form_that_takes_the_parser_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "_MOST_SECONDS", 0.0)
    with pytest.raises(GatewayError, match="cannot be read"):
        read(body(LABEL, *BOTH), tmp_path)
