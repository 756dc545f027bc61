"""Computes features of photos for a gateway, which loads no onnx: one photo at a time, until its input ends.

in   {"model": …, "version": …, "weights": …, "shape": [h, w, 3]} as a line, then the pixels, uint8
out  {"graph": …, "features": d, "logits": l} as a line, then d and l little-endian float32; or {"fault": why not},
     in words for a client; or {"log": why not}, which may name paths
"""

import contextlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import IO, Any

import numpy as np

from labelwise.errors import LabelwiseError
from labelwise.repository import Repository
from teaching.feature_graph import FeatureGraph, open_features

_THREADS = 1  # tagging needs the other cores


def main(repository: str) -> None:
    """Works until the gateway closes the pipe, or has ended. `weights` are the SHA-256 of the tagger's first graph."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a gateway that shuts down still answers its requests
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    with contextlib.suppress(BrokenPipeError, EOFError):
        _work(_Graphs(Path(repository)), sys.stdin.buffer, output)


class _NotHere(Exception):
    """The repository lacks what was asked for. The message is for a client, so it names no path."""


class _Graphs:
    """The graph that was asked for last."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._held: tuple[str, FeatureGraph] | None = None

    def of(self, model: str, version: int, weights: str) -> FeatureGraph:
        """Raises _NotHere if the repository does not have these weights, LabelwiseError if they cannot be used."""
        if self._held is None or self._held[0] != weights:
            self._held = weights, self._opened(model, version, weights)
        return self._held[1]

    def _opened(self, model: str, version: int, weights: str) -> FeatureGraph:
        versions = Repository.open(self._repository, skip_broken=True, only=model).taggers.get(model, {})
        found = versions.get(version)
        graph = next((graph for graph in found.spec.graphs if graph.sha256 == weights), None) if found else None
        if found is None or graph is None:
            raise _NotHere(f"version {version} of {model} is not in the gateway's own repository")
        return open_features(found.weights.with_name(graph.file), found.spec, _THREADS)


def _work(graphs: _Graphs, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
    while line := incoming.readline():
        asked = json.loads(line)
        shape = asked.pop("shape")
        pixels = np.frombuffer(_read(incoming, int(np.prod(shape))), np.uint8).reshape(1, *shape)
        outgoing.write(_answer(graphs, asked, pixels))
        outgoing.flush()


def _answer(graphs: _Graphs, asked: dict[str, Any], pixels: np.ndarray) -> bytes:
    try:
        graph = graphs.of(**asked)
        features, logits = (values[0].astype("<f4") for values in graph.see(pixels))
    except _NotHere as error:
        return _line({"fault": str(error)})
    except LabelwiseError as error:
        return _line({"log": str(error)})
    except Exception:  # a bug, which must not cost the correction
        return _line({"log": traceback.format_exc()})
    sizes = {"graph": graph.identity, "features": len(features), "logits": len(logits)}
    return _line(sizes) + features.tobytes() + logits.tobytes()


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def _read(incoming: IO[bytes], size: int) -> bytes:
    data = incoming.read(size)
    if len(data) < size:
        raise EOFError
    return data
