"""Reading one photo from a request: limits while the bytes arrive, in memory only, never the disk."""

from collections.abc import AsyncGenerator

import anyio
from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from serving.errors import GatewayError
from serving.fetch import Fetcher
from serving.settings import Settings

FORM_FIELD = "file"

# curl's --data-binary says x-www-form-urlencoded when it is told nothing else.
_RAW_TYPES = ("", "application/octet-stream", "application/x-www-form-urlencoded")


class _InMemoryParser(MultiPartParser):
    spool_max_size = 0  # SpooledTemporaryFile's word for: never roll over to the disk


async def read_photo(request: Request, settings: Settings, fetcher: Fetcher | None = None) -> bytes:
    """The photo's bytes from a raw body, or from the `file` field of a multipart form. Raises GatewayError."""
    content_type, _ = parse_options_header(request.headers.get("content-type", ""))
    kind = content_type.decode("latin-1").lower()
    if kind == "application/json" and fetcher is not None:
        return await fetcher.photo_of(await _read_body(request, settings))
    is_form = kind == "multipart/form-data"
    if not is_form and kind not in _RAW_TYPES and not kind.startswith("image/"):
        raise GatewayError(
            "image_format_unsupported",
            f"Send the photo itself as image/*, or a multipart form with it as `{FORM_FIELD}`.",
        )
    body = await _read_body(request, settings)
    photo = await _photo_of_form(request, body) if is_form else body
    if not photo:
        raise GatewayError("image_empty", "There is no photo in the request: send its bytes as the body.")
    return photo


async def _read_body(request: Request, settings: Settings) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > settings.max_body:
        raise _too_large(settings)
    body = bytearray()
    try:
        with anyio.fail_after(settings.upload_timeout):
            async for chunk in request.stream():
                body += chunk
                if len(body) > settings.max_body:
                    raise _too_large(settings)
    except ClientDisconnect:
        raise GatewayError("client_closed", "The upload ended before its end.") from None
    except TimeoutError:
        raise GatewayError("upload_timeout", "The upload was too slow and was given up; try again.") from None
    return bytes(body)


async def _photo_of_form(request: Request, body: bytes) -> bytes:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await _InMemoryParser(request.headers, stream(), max_files=1, max_fields=8).parse()
    except (MultiPartException, KeyError, UnicodeError):
        raise GatewayError(
            "malformed_body", f"The multipart form cannot be read; send one file in the field `{FORM_FIELD}`."
        ) from None
    try:
        photo = form.get(FORM_FIELD)
        if photo is None or isinstance(photo, str):
            raise GatewayError("malformed_body", f"The multipart form has no file in the field `{FORM_FIELD}`.")
        return await photo.read()
    finally:
        await form.close()


def _too_large(settings: Settings) -> GatewayError:
    return GatewayError("body_too_large", f"Send at most {settings.max_body / 2**20:g} MiB.")
