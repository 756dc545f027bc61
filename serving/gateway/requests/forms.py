"""Photos in a body: multipart forms and JSON. Blocking, so large bodies are for a thread."""

import base64
import binascii
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from labelwise.validation import first_refusal
from serving.gateway.problems import GatewayError

_OTHER_PARTS = 64  # besides the photos; more only cost time
_LONGEST_ID = 1024
_PIECE = 2**20  # bytes of a form, or characters of base64; a multiple of four
_MOST_SECONDS = 2.0  # of processor time for a form; 64 MiB of photos take 0.2
_PARTS = ("part_begin", "part_data", "header_begin", "header_field", "header_value", "header_end", "headers_finished")


@dataclass(frozen=True)
class Item:
    """One photo of a batch: its bytes, or what is wrong with it."""

    id: str
    photo: bytes | GatewayError


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str | None = None
    file_name: str | None = None
    content: list[bytes] = field(default_factory=list)


def form_files(body: bytes, content_type: str, field_name: str, most: int) -> list[tuple[str | None, bytes]]:
    """Returns the files in the field `field_name` of a multipart form, each with its name or None.

    Raises GatewayError `malformed_body` if the body is not such a form, `too_many_images` for more than `most` files.
    """
    _, options = parse_options_header(content_type)
    reader = _FormReader(field_name, most)
    try:
        parser = MultipartParser(options[b"boundary"], reader.callbacks())  # type: ignore[arg-type]
        _feed(parser, body)
        parser.finalize()
    except (FormParserError, KeyError, UnicodeError, ValueError):
        raise _not_a_form(field_name) from None
    if not reader.has_ended:
        raise _not_a_form(field_name)
    return [(part.file_name, b"".join(part.content)) for part in reader.files]


def _feed(parser: MultipartParser, body: bytes) -> None:
    """Feeds pieces, and gives up after a while: where many boundaries seem to begin, the parser goes byte by byte."""
    begun, view = time.thread_time(), memoryview(body)
    for start in range(0, len(body), _PIECE):
        parser.write(bytes(view[start : start + _PIECE]))
        if time.thread_time() - begun > _MOST_SECONDS:
            raise FormParserError("it takes too long")


def form_items(body: bytes, content_type: str, field_name: str, most: int) -> list[Item]:
    """Returns the photos of a form. Ids are the files' names, or the places if a name is missing or repeated."""
    files = form_files(body, content_type, field_name, most)
    names = [name for name, _ in files if name]
    if len(set(names)) == len(files):
        return [Item(name, photo) for name, (_, photo) in zip(names, files, strict=True)]
    return [Item(str(place), photo) for place, (_, photo) in enumerate(files)]


class _FormReader:
    """The callbacks of python_multipart's parser."""

    def __init__(self, field_name: str, most: int) -> None:
        self._field_name, self._most = field_name, most
        self._others, self._part, self._header = 0, _Part(), [b"", b""]
        self.files: list[_Part] = []
        self.has_ended = False

    def callbacks(self) -> dict[str, object]:
        return {f"on_{event}": getattr(self, f"_on_{event}") for event in (*_PARTS, "end")}

    def _on_part_begin(self) -> None:
        self._part = _Part()

    def _on_header_begin(self) -> None:
        self._header = [b"", b""]

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _on_header_end(self) -> None:
        self._part.headers[self._header[0].lower()] = self._header[1]

    def _on_headers_finished(self) -> None:
        disposition = self._part.headers.get(b"content-disposition", b"").decode("latin-1")
        _, options = parse_options_header(disposition)
        if b"name" not in options:
            raise FormParserError("a part has no name")
        if options[b"name"].decode(errors="replace") != self._field_name:
            self._others += 1
            if self._others > _OTHER_PARTS:
                raise FormParserError("too many parts")
            return
        # Some clients send a name beyond ASCII only in the extended form (RFC 5987), which the parser ignores.
        is_file = b"filename" in options or b"content-type" in self._part.headers or "filename*=" in disposition
        if not is_file:
            raise FormParserError("a text in place of a photo, which would be missing among the results")
        if len(self.files) == self._most:
            raise too_many_images(self._most)
        self._part.file_name = options.get(b"filename", b"").decode(errors="replace") or None
        self.files.append(self._part)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._part.content.append(data[start:end])

    def _on_end(self) -> None:
        self.has_ended = True


class _Json(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class JsonImage(_Json):
    id: Annotated[str, Field(min_length=1, max_length=_LONGEST_ID)]
    data: Annotated[str, Field(description="The photo's bytes.", json_schema_extra={"contentEncoding": "base64"})]


class JsonBatch(_Json):
    images: Annotated[list[JsonImage], Field(min_length=1)]


class _JsonUrl(_Json):
    url: str


def json_url(body: bytes) -> str:
    """Returns the URL of {"url": …}. Raises GatewayError for other JSON."""
    try:
        return _JsonUrl.model_validate_json(body).url
    except ValidationError as error:
        raise _wrong_json(error, '{"url": "https://…"}') from None


def json_items(body: bytes, most: int) -> list[Item]:
    """Returns the photos of {"images": [{"id": …, "data": base64}]}. Wrong base64 is an error of its photo only.

    Raises GatewayError for other JSON, for repeated ids, and `too_many_images` for more than `most` photos.
    """
    # Before anything is parsed: parsed, a body such as `[1,1,1,…` takes twenty times its bytes.
    if body.count(b",") > most * (_LONGEST_ID + 2):
        raise too_many_images(most)
    try:
        images = JsonBatch.model_validate_json(body).images
    except ValidationError as error:
        raise _wrong_json(error, '{"images": [{"id": …, "data": …}]}') from None
    if len(images) > most:
        raise too_many_images(most)
    id, count = Counter(image.id for image in images).most_common(1)[0]
    if count > 1:
        raise GatewayError(
            "invalid_request", f"images: the id {id!r} occurs {count} times; give each photo a different one."
        )
    return [Item(image.id, _from_base64(image.data)) for image in images]


def _from_base64(text: str) -> bytes | GatewayError:
    """Decodes in pieces, so that the event loop runs between them: decoding holds the GIL."""
    wrong = GatewayError(
        "image_not_base64",
        "data: this is not base64 of a photo (RFC 4648), padded, in one line and without `data:` before it.",
    )
    if len(text) % 4 or "=" in text[:-2]:
        return wrong
    try:
        pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
        return b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
    except (binascii.Error, ValueError):
        return wrong


def too_many_images(most: int) -> GatewayError:
    return GatewayError("too_many_images", f"Send at most {most} photos in one request.")


def _wrong_json(error: ValidationError, expected: str) -> GatewayError:
    refusal = first_refusal(error)
    if refusal.kind == "json_invalid":
        return GatewayError("malformed_body", f"The body is not JSON; expected {expected}.")
    return GatewayError("invalid_request", f"{refusal.field or 'body'}: {refusal.reason}.")


def _not_a_form(field_name: str) -> GatewayError:
    return GatewayError("malformed_body", f"The multipart form cannot be read; send files in the field `{field_name}`.")
