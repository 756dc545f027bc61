"""Engines run a tagger on pixels; the gateway knows no more of them than `Engine`."""

from serving.engines.base import Engine, EngineError, EngineOverloaded, EngineTimeout, EngineUnavailable, UnknownModel

__all__ = ["Engine", "EngineError", "EngineOverloaded", "EngineTimeout", "EngineUnavailable", "UnknownModel"]
