"""Finds out at the start whether lessons can be given here: better than at the first lesson."""

import importlib.util
import os

from labelwise.errors import LabelwiseError
from serving.settings import Settings


def require_lessons(settings: Settings) -> None:
    """Raises LabelwiseError, which says what to do, if `settings` switch teaching on and it cannot work."""
    if not settings.teach:
        return
    if importlib.util.find_spec("onnx") is None:
        raise LabelwiseError("Teaching needs the 'onnx' extra: pip install 'labelwise[onnx]', or leave out --teach.")
    if settings.repository.is_dir() and not os.access(settings.repository, os.W_OK):
        raise LabelwiseError(
            f"Lessons are published into {settings.repository}, which cannot be written here: make it writable, or "
            "leave out --teach."
        )
