"""The form of a lesson, written to the disk as it arrives: a label, and photos with and without it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from python_multipart.exceptions import FormParserError

from labelwise.label_names import can_be_shown, clean_name
from serving.gateway.problems import GatewayError
from serving.gateway.requests.forms import NOT_A_FORM, FormReader, PartHead, too_many_images

YES, NO = "yes", "no"
_LABEL, _FROM_FEEDBACK = "label", "from_feedback"
_LONGEST_TEXT = 1024  # bytes
_LONGEST_NAME = 255  # characters


class SentPhoto(NamedTuple):
    """A file of the form: its field, and what the client calls it."""

    field: str
    name: str


class LessonForm(FormReader):
    """Photo number `i` of the form is written to the file `i` of `folder`: what clients call a file is never a path.

    Blocking. `feed` and `finish` raise GatewayError for anything but such a form, and OSError if the disk is full.
    """

    def __init__(self, content_type: str, folder: Path, most_photos: int, most_bytes: int) -> None:
        self._folder, self._most_photos, self._most_bytes = folder, most_photos, most_bytes
        self._texts: dict[str, bytes] = {}
        self._text, self._size = "", 0
        self._file: IO[bytes] | None = None
        self.photos: list[SentPhoto] = []
        with _refusals():
            super().__init__(content_type)

    @property
    def label(self) -> str:
        return clean_name(self._texts.get(_LABEL, b"").decode(errors="replace"))

    @property
    def from_feedback(self) -> bool:
        return self._texts.get(_FROM_FEEDBACK) == b"true"

    def feed(self, piece: bytes) -> None:
        with _refusals():
            super().feed(piece)

    def finish(self) -> None:
        with _refusals():
            super().finish()
        self.close()
        if self._texts.get(_FROM_FEEDBACK, b"false") not in (b"true", b"false"):
            raise GatewayError("invalid_request", f"{_FROM_FEEDBACK}: it is true or false.")
        if not self.label or not can_be_shown(self.label):
            raise GatewayError(
                "invalid_request", f"{_LABEL}: name the label to teach, in characters that can be printed."
            )
        sent = {photo.field for photo in self.photos}
        if missing := [] if self.from_feedback else [field for field in (YES, NO) if field not in sent]:
            raise GatewayError(
                "invalid_request", f"{missing[0]}: send photos; at least 3 as yes and 3 as no are needed."
            )

    def close(self) -> None:
        """Closes the file that is being written. Safe to call twice."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def begin(self, part: PartHead) -> None:
        self.close()
        self._text, self._size = "", 0
        if part.name in (YES, NO):
            if not part.is_file:
                raise FormParserError("a text in place of a photo")
            if len(self.photos) == self._most_photos:
                raise too_many_images(self._most_photos)
            self._file = (self._folder / str(len(self.photos))).open("wb")
            name = part.file_name or f"photo {len(self.photos)}"
            self.photos.append(SentPhoto(part.name, name[:_LONGEST_NAME]))
        elif part.name in (_LABEL, _FROM_FEEDBACK):
            if part.name in self._texts:
                raise GatewayError("invalid_request", f"{part.name}: give it only once.")
            self._text = part.name
            self._texts[part.name] = b""
        else:
            raise GatewayError(
                "invalid_request", f"A lesson has the fields {_LABEL}, {YES}, {NO} and {_FROM_FEEDBACK}."
            )

    def take(self, content: bytes) -> None:
        self._size += len(content)
        if self._file is None:
            if self._size > _LONGEST_TEXT:
                raise GatewayError("invalid_request", f"{self._text}: it is too long.")
            self._texts[self._text] += content
            return
        if self._size > self._most_bytes:
            raise GatewayError("body_too_large", f"Send photos of at most {self._most_bytes / 2**20:g} MiB each.")
        self._file.write(content)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except NOT_A_FORM:
        raise GatewayError(
            "malformed_body", f"The multipart form cannot be read; send {_LABEL}, and files as `{YES}` and `{NO}`."
        ) from None
