"""Photos in a body: multipart forms and JSON. Blocking, so large bodies are for a thread."""

import base64
import binascii
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from labelwise.validation import first_refusal
from serving.gateway.problems import GatewayError

_OTHER_PARTS = 64  # besides the photos; more only cost time
_LONGEST_ID = 1024
PIECE = 2**20  # bytes of a form, or characters of base64; a multiple of four
_MOST_SECONDS = 2.0  # of processor time for each _TIMED bytes of a form; photos take 0.2
_TIMED = 64 * 2**20
_LONGEST_HEAD = 16 * 2**10  # bytes of a part's headers
NOT_A_FORM = (FormParserError, KeyError, UnicodeError, ValueError)  # what a reader raises for other bytes
_PARTS = ("part_begin", "part_data", "header_begin", "header_field", "header_value", "header_end", "headers_finished")


@dataclass(frozen=True)
class Item:
    """One photo of a batch: its bytes, or what is wrong with it."""

    id: str
    photo: bytes | GatewayError


class PartHead(NamedTuple):
    """What a part says of itself: its field, whether it is a file, and the file's name if it has one."""

    name: str
    is_file: bool
    file_name: str | None


@dataclass
class _File:
    name: str | None
    content: list[bytes] = field(default_factory=list)


def form_files(body: bytes, content_type: str, field_name: str, most: int) -> list[tuple[str | None, bytes]]:
    """Returns the files in the field `field_name` of a multipart form, each with its name or None.

    Raises GatewayError `malformed_body` if the body is not such a form, `too_many_images` for more than `most` files.
    """
    view = memoryview(body)
    try:
        reader = _FilesOfField(content_type, field_name, most)
        for start in range(0, len(body), PIECE):
            reader.feed(bytes(view[start : start + PIECE]))
        reader.finish()
    except NOT_A_FORM:
        raise GatewayError(
            "malformed_body", f"The multipart form cannot be read; send files in the field `{field_name}`."
        ) from None
    return [(file.name, b"".join(file.content)) for file in reader.files]


def form_items(body: bytes, content_type: str, field_name: str, most: int) -> list[Item]:
    """Returns the photos of a form. Ids are the files' names, or the places if a name is missing or repeated."""
    files = form_files(body, content_type, field_name, most)
    names = [name for name, _ in files if name]
    if len(set(names)) == len(files):
        return [Item(name, photo) for name, (_, photo) in zip(names, files, strict=True)]
    return [Item(str(place), photo) for place, (_, photo) in enumerate(files)]


class FormReader:
    """Reads a multipart form (RFC 7578) in pieces, with limits on the heads of its parts and on processor time.

    A subclass gets each part: `begin` its head, then `take` its content. All of it may raise one of NOT_A_FORM.
    """

    def __init__(self, content_type: str) -> None:
        _, options = parse_options_header(content_type)
        callbacks = {f"on_{event}": getattr(self, f"_on_{event}") for event in (*_PARTS, "end")}
        self._parser = MultipartParser(options[b"boundary"], callbacks)  # type: ignore[arg-type]
        self._headers: dict[bytes, bytes] = {}
        self._header, self._head_bytes = [b"", b""], 0
        self._bytes, self._seconds, self._has_ended = 0, 0.0, False

    def begin(self, part: PartHead) -> None:
        raise NotImplementedError

    def take(self, content: bytes) -> None:
        raise NotImplementedError

    def feed(self, piece: bytes) -> None:
        """Gives up after a while: where many boundaries seem to begin, the parser goes byte by byte."""
        begun = time.thread_time()
        self._parser.write(piece)
        self._seconds += time.thread_time() - begun
        self._bytes += len(piece)
        if self._seconds > _MOST_SECONDS * max(1, self._bytes / _TIMED):
            raise FormParserError("it takes too long")

    def finish(self) -> None:
        self._parser.finalize()
        if not self._has_ended:
            raise FormParserError("it has no end")

    def _on_part_begin(self) -> None:
        self._headers, self._head_bytes = {}, 0

    def _on_header_begin(self) -> None:
        self._header = [b"", b""]

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._add(0, data[start:end])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._add(1, data[start:end])

    def _add(self, place: int, text: bytes) -> None:
        self._head_bytes += len(text)
        if self._head_bytes > _LONGEST_HEAD:
            raise FormParserError("a part's headers are too long")
        self._header[place] += text

    def _on_header_end(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]

    def _on_headers_finished(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"").decode("latin-1")
        _, options = parse_options_header(disposition)
        if b"name" not in options:
            raise FormParserError("a part has no name")
        # Some clients send a name beyond ASCII only in the extended form (RFC 5987), which the parser ignores.
        is_file = b"filename" in options or b"content-type" in self._headers or "filename*=" in disposition
        file_name = options.get(b"filename", b"").decode(errors="replace") or None
        self.begin(PartHead(options[b"name"].decode(errors="replace"), is_file, file_name))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.take(data[start:end])

    def _on_end(self) -> None:
        self._has_ended = True


class _FilesOfField(FormReader):
    """Keeps the files of one field, at most `most` of them. Drops a few other parts."""

    def __init__(self, content_type: str, field_name: str, most: int) -> None:
        super().__init__(content_type)
        self._field_name, self._most = field_name, most
        self._others, self._part = 0, _File(None)
        self.files: list[_File] = []

    def begin(self, part: PartHead) -> None:
        self._part = _File(part.file_name)
        if part.name != self._field_name:
            self._others += 1
            if self._others > _OTHER_PARTS:
                raise FormParserError("too many parts")
            return
        if not part.is_file:
            raise FormParserError("a text in place of a photo, which would be missing among the results")
        if len(self.files) == self._most:
            raise too_many_images(self._most)
        self.files.append(self._part)

    def take(self, content: bytes) -> None:
        self._part.content.append(content)


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
        pieces = (text[start : start + PIECE] for start in range(0, len(text), PIECE))
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
