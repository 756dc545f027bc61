"""The store of corrections of `labelwise serve --feedback FILE.db --feedback-photos`: what people said of photos."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from labelwise.errors import DataError
from labelwise.feedback import UNKNOWN, FeedbackStore, is_store
from labelwise.files import write_atomically
from training.data.labelled_data import LabelledData, assemble, counted

NAME = "a store of corrections"
LAYOUT = "the FILE.db of `labelwise serve --feedback FILE.db --feedback-photos`"

_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp"}


def recognises(source: Path) -> bool:
    return source.is_file() and is_store(source)


def read(source: Path, seed: int) -> LabelledData:
    """The newest answers; what nobody answered is unknown. Raises DataError.

    The photos are written into a folder beside the store: to train, they are read many times, by several processes.
    """
    store = FeedbackStore(source)
    answered, stored = store.answered(), store.with_content()
    rows = [row for row, photo in enumerate(answered.photos) if photo in stored]
    if not rows:
        raise DataError(
            f"{source} holds no photos, only answers: `labelwise serve --feedback-photos` also keeps photos, and "
            "`labelwise teach --from-feedback` learns without them."
        )
    answers = answered.answers[rows]
    columns = np.flatnonzero((answers != UNKNOWN).any(axis=0))
    folder = source.with_name(f"{source.stem}-photos")
    files = _written(store, [answered.photos[row] for row in rows], folder)
    labels = [answered.labels[column] for column in columns]
    data = assemble(labels, files, answers[:, columns].astype(np.float32), None, seed, source)
    notes = [f"The photos are written to {folder}."]
    if lost := len(answered.photos) - len(rows):
        notes.append(f"Left out: {counted(lost, 'photo')} that somebody answered about, but that are not stored.")
    return replace(data, notes=(*notes, *data.notes))


def _written(store: FeedbackStore, photos: Sequence[str], folder: Path) -> list[Path]:
    """The photos as files, which are named by their content; so one that is there is whole and need not be written."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        there = {file.stem: file for file in folder.iterdir()}
        return [there.get(photo) or _write(store.content(photo), folder / photo) for photo in photos]
    except OSError as error:
        raise DataError(
            f"The photos of {store.file} cannot be written to {folder}: {error.strerror}. Copy the store to a folder "
            "with room, where you can write."
        ) from error


def _write(content: bytes, file: Path) -> Path:
    suffix = next((suffix for start, suffix in _SUFFIXES.items() if content.startswith(start)), ".photo")
    write_atomically(file.with_suffix(suffix), content)
    return file.with_suffix(suffix)
