"""The contract between whatever runs models and those that ask it: pixels, outputs, and an engine."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labelwise.repository import VersionKey
from labelwise.spec import TaggerSpec

Pixels = NDArray[np.uint8]  # [b, h, w, 3]
Outputs = dict[str, NDArray[np.float32]]  # output name -> [b, ...]
Catalogue = Mapping[str, Mapping[int, TaggerSpec]]  # model name -> version -> its contract, newest last


_BYTE = np.dtype(np.uint8)


def require_fitting(pixels: Pixels, spec: TaggerSpec) -> None:
    """Raises ValueError for pixels that are not of the model's size, or more of them than its `max_batch`."""
    if not 1 <= len(pixels) <= spec.max_batch or pixels.shape[1:] != spec.input.shape or pixels.dtype != _BYTE:
        raise ValueError(f"{spec.name} takes uint8 [1..{spec.max_batch}, {spec.input.shape}], not {pixels.shape}")


class Engine(Protocol):
    """Runs the taggers of one repository. Methods are called on one event loop and must not block it."""

    @property
    def catalogue(self) -> Catalogue:
        """The models and versions that this engine serves: a new mapping whenever the repository has changed.

        The engine still runs a version that has left it, for the requests that began with it.
        """

    @property
    def reasons(self) -> Mapping[VersionKey, str]:
        """Why the graph in a version's contract runs and no other; lacks versions of which this is not known."""

    @property
    def device(self) -> str:
        """What the graphs run on: cpu, cuda and so on, or triton."""

    async def start(self) -> None:
        """Loads and warms up every model. Raises LabelwiseError if that is impossible."""

    async def close(self) -> None:
        """Finishes running work, then frees everything. Safe to call twice."""

    async def is_ready(self) -> bool:
        """Whether the engine would answer `infer` now."""

    async def infer(self, model: str, version: int, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        """Runs one batch and returns the `outputs` of that model.

        Raises a ServingError, ServerTimeout after `timeout` seconds; ValueError for pixels that are not the model's
        size, or more of them than its `max_batch`.
        """


def catalogue_of(specs: Mapping[VersionKey, TaggerSpec]) -> Catalogue:
    """By name, then by version, newest last."""
    catalogue: dict[str, dict[int, TaggerSpec]] = {}
    for name, number in sorted(specs):
        catalogue.setdefault(name, {})[number] = specs[name, number]
    return catalogue
