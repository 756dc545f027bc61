"""The Python client of Triton and of the gateway: Tagger, and AsyncTagger with the same methods."""

from labelwise.tagging import Tag
from serving.client.async_tagger import AsyncTagger
from serving.client.calls import EmbedResult, ExplainResult, SeenLabel, TagResult
from serving.client.tagger import Tagger
from serving.errors import (
    ClientClosed,
    ClientError,
    OutputNotOffered,
    PhotoError,
    ServerBusy,
    ServerFailed,
    ServerTimeout,
    ServerUnavailable,
    Unauthorized,
    UnknownModel,
    WrongContract,
)

__all__ = [
    "AsyncTagger",
    "ClientClosed",
    "ClientError",
    "EmbedResult",
    "ExplainResult",
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
]
