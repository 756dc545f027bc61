"""Trains a multi-label image tagger on your own labels, exports it, and serves it.

This is what a Python user imports: `from labelwise import Tagger`. Importing labelwise loads nothing; the client comes
from serving.client when it is first used. The modules beside this one are what every stage agrees on: the tagger's
contract, the layout of a model repository, and the one way to read an image.
"""

# ruff: noqa: F403, F405 - type checkers find the client's names by the star

from typing import TYPE_CHECKING

from labelwise.errors import LabelwiseError

if TYPE_CHECKING:
    from labelwise.version import VERSION as __version__
    from serving.client import *

__all__ = [
    "AsyncTagger",
    "ClientClosed",
    "ClientError",
    "EmbedResult",
    "ExplainResult",
    "LabelwiseError",
    "OutputNotOffered",
    "PhotoError",
    "SeenLabel",
    "ServerBusy",
    "ServerFailed",
    "ServerTimeout",
    "ServerUnavailable",
    "Tag",
    "TagResult",
    "Tagger",
    "Unauthorized",
    "UnknownModel",
    "WrongContract",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Loads the public names when they are first used (PEP 562)."""
    if name == "__version__":
        from labelwise.version import VERSION

        return VERSION
    if name in __all__:
        from serving import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
