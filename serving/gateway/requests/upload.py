"""Reads photos from a request, with limits while the bytes arrive. Only those of a lesson are written to the disk."""

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fastapi import Request
from python_multipart.multipart import parse_options_header

from serving.gateway.problems import GatewayError
from serving.gateway.requests.admission import Place
from serving.gateway.requests.answer import arrived_body
from serving.gateway.requests.deadline import Deadline
from serving.gateway.requests.decoders import Decoders
from serving.gateway.requests.forms import PIECE, Item, form_files, form_items, json_items, json_url
from serving.gateway.requests.head import headers_of
from serving.gateway.requests.lesson_form import LessonForm
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.gateway.requests.fetch import Fetcher

T = TypeVar("T")

FORM_FIELD = "file"
BATCH_FIELD = "files"

_FORM = "multipart/form-data"
_JSON = "application/json"
# curl's --data-binary sends x-www-form-urlencoded by default.
_RAW_TYPES = ("", "application/octet-stream", "application/x-www-form-urlencoded")


class Uploads:
    """Reads what the settings allow; forms and JSON are parsed on the decoders' threads."""

    def __init__(self, settings: Settings, decoders: Decoders) -> None:
        self._settings, self._decoders = settings, decoders
        self.fetcher = _fetcher(settings) if settings.fetch_hosts else None

    async def photo(self, request: Request, place: Place) -> bytes:
        """Returns the photo of a raw body, the `file` field of a multipart form, or a URL. Raises GatewayError."""
        kind = _content_type(request)
        if kind == _JSON and self.fetcher is not None:
            url = json_url(await self._body(request, place, self._settings.max_body))
            with place.fetch():
                photo = await self.fetcher.fetch(url, place.take_bytes)
            place.begin(images=1)
            return photo
        if kind != _FORM and kind not in _RAW_TYPES and not kind.startswith("image/"):
            raise GatewayError(
                "content_type_unsupported",
                f"Send the photo itself as image/*, or a multipart form with it as `{FORM_FIELD}`.",
            )
        body = await self._body(request, place, self._settings.max_body)
        place.begin(images=1)
        photo = await self._photo_of_form(request, body) if kind == _FORM else body
        if not photo:
            raise GatewayError("image_empty", "There is no photo in the request: send its bytes as the body.")
        return photo

    async def batch(self, request: Request, place: Place) -> list[Item]:
        """Returns at least one photo, of the `files` of a multipart form or of JSON. Raises GatewayError."""
        kind, most = _content_type(request), self._settings.max_images
        if kind not in (_FORM, _JSON):
            raise GatewayError(
                "content_type_unsupported",
                f"Send the photos as a multipart form with the field `{BATCH_FIELD}`, or as application/json.",
            )
        body = await self._body(request, place, self._settings.max_batch_body)
        place.begin()
        if kind == _JSON:
            read = functools.partial(json_items, body, most)
        else:
            read = functools.partial(form_items, body, request.headers["content-type"], BATCH_FIELD, most)
        items = await self._decoders.run(read, Deadline(self._settings.request_timeout))
        if not items:
            raise GatewayError("malformed_body", f"The multipart form has no file in the field `{BATCH_FIELD}`.")
        place.take_images(len(items))
        return [Item(item.id, self._checked(item.photo)) for item in items]

    async def lesson(self, request: Request, folder: Path, deadline: Deadline) -> LessonForm:
        """Writes the photos of a lesson's form into `folder`. Raises GatewayError, and OSError if the disk is full."""
        if _content_type(request) != _FORM:
            raise GatewayError(
                "content_type_unsupported", "Send a lesson as a multipart form with the fields label, yes and no."
            )
        most, size, is_whole = self._settings.max_teach_body, 0, False
        self._check_head(request, most)
        form = LessonForm(
            request.headers["content-type"], folder, self._settings.max_teach_images, self._settings.max_body
        )
        try:
            while not is_whole:
                # A client that sends slowly must not hold up other lessons.
                wait = min(self._settings.upload_timeout, deadline.left())
                piece, is_whole = await asyncio.wait_for(_piece(request), wait)
                size += len(piece)
                if size > most:
                    raise _too_large(most)
                await finished_in_thread(functools.partial(form.feed, piece))
            await finished_in_thread(form.finish)
        except asyncio.TimeoutError:
            raise _too_slow() from None
        finally:
            form.close()
        return form

    def _checked(self, photo: bytes | GatewayError) -> bytes | GatewayError:
        if isinstance(photo, bytes) and len(photo) > self._settings.max_body:
            return _too_large(self._settings.max_body)
        return photo

    async def _photo_of_form(self, request: Request, body: bytes) -> bytes:
        read = functools.partial(form_files, body, request.headers["content-type"], FORM_FIELD, 2)
        files = await self._decoders.run(read, Deadline(self._settings.request_timeout))
        if len(files) != 1:
            there = "more than one file" if files else "no file"
            raise GatewayError("malformed_body", f"The multipart form has {there} in the field `{FORM_FIELD}`.")
        return files[0][1]

    def _check_head(self, request: Request, most: int) -> None:
        headers = headers_of(request.scope)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise GatewayError("content_type_unsupported", "Send it as it is: this server unpacks no Content-Encoding.")
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > most:
            raise _too_large(most)

    async def _body(self, request: Request, place: Place, most: int) -> bytes:
        self._check_head(request, most)
        arrived = arrived_body(request.scope)
        if arrived is not None:
            if len(arrived) > most:
                raise _too_large(most)
            place.take_bytes(len(arrived))
            return arrived
        first, rest = b"", bytearray()  # most photos come in one piece, which is not copied
        try:
            with place.upload(self._settings.upload_timeout):
                is_whole = False
                while not is_whole:
                    chunk, is_whole = await _received(request)
                    place.take_bytes(len(chunk))
                    if first:
                        rest += chunk
                    else:
                        first = chunk
                    if len(first) + len(rest) > most:
                        raise _too_large(most)
        except asyncio.TimeoutError:
            raise _too_slow() from None
        return first + rest


def _fetcher(settings: Settings) -> "Fetcher":
    from serving.gateway.requests.fetch import Fetcher  # and with it an HTTP client, only if it is used

    return Fetcher(settings.fetch_hosts, settings.max_body, settings.fetch_timeout)


async def _received(request: Request) -> tuple[bytes, bool]:
    """Returns what has arrived of the body, and whether that was the last of it."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise GatewayError("client_closed", "The upload ended before its end.")
    return message.get("body", b""), not message.get("more_body", False)


async def _piece(request: Request) -> tuple[bytes, bool]:
    """Returns at least PIECE bytes of the body or its rest, and whether these were the last."""
    chunks, size, is_whole = [], 0, False
    while size < PIECE and not is_whole:
        chunk, is_whole = await _received(request)
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks), is_whole


async def finished_in_thread(work: Callable[[], T]) -> T:
    """Does `work` on a thread, and returns or raises only when it has ended, even if this task is cancelled."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _content_type(request: Request) -> str:
    kind, _ = parse_options_header(headers_of(request.scope).get(b"content-type", b"").decode("latin-1"))
    return kind.decode("latin-1").lower()


def _too_slow() -> GatewayError:
    return GatewayError("upload_timeout", "The upload was too slow and was given up; try again.")


def _too_large(most: int) -> GatewayError:
    return GatewayError("body_too_large", f"Send at most {most / 2**20:g} MiB.")
