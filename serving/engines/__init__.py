"""Engines run a tagger on pixels; the gateway knows no more of them than `Engine`."""

from labelwise.repository import Repository
from serving.engines.base import Engine
from serving.settings import Settings


def create_engine(settings: Settings) -> Engine:
    """The engine that `settings` names, on the repository it names. Raises LabelwiseError."""
    repository = Repository.open(settings.repository)
    if settings.engine == "embedded":
        from serving.engines.embedded import EmbeddedEngine

        return EmbeddedEngine(repository, settings.threads, settings.session_threads)
    from serving.engines.triton import create_triton_engine

    return create_triton_engine(repository, settings)
