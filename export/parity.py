"""Compares an exported graph with its source: names, types, a dynamic batch, and the numbers."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.half_arithmetic import open_as_computed
from export.onnx_file import (
    GraphError,
    Outputs,
    Runner,
    batches_of,
    load_structure,
    open_session,
    run_all,
    session_runner,
    signature_faults,
)
from export.pictures import Pictures
from export.tolerances import TOLERANCES, Precision, Tolerance
from labelwise.errors import LabelwiseError
from labelwise.spec import TrainedSpec


class ParityError(LabelwiseError):
    """The exported graph disagrees with its source or with its contract; nothing is published."""


@dataclass(frozen=True)
class Difference:
    """The largest difference of one output at one batch size, and the picture with it."""

    output: str
    batch: int
    value: float
    image: str
    tolerance: Tolerance

    @property
    def ok(self) -> bool:
        return self.value <= self.tolerance.limit  # false for NaN

    def __str__(self) -> str:
        size = f"{self.value:.2g}" + (" (1 - cosine)" if self.tolerance.measure == "cosine" else "")
        return f"{self.output} at batch {self.batch} by {size}, more than {self.tolerance.limit:g}, on {self.image}"


def check_parity(
    reference: Runner,
    called: str,
    spec: TrainedSpec,
    file: Path,
    pictures: Pictures,
    precision: Precision = "fp32",
    as_computed: bool = False,
) -> list[Difference]:
    """Compares the graph in `file` with `reference`, which errors name `called`, at batch 1, 2, an odd one and max.

    `precision` sets the tolerances. With `as_computed`, a graph of half floats is rounded as on a GPU; otherwise this
    CPU computes it in fp32. Raises ParityError if the graph disagrees with the contract, or if an output differs by
    more than its tolerance.
    """
    try:
        if faults := signature_faults(load_structure(file), spec):
            raise ParityError(f"Not published: {'; '.join(faults)}.")
        expected = run_all(reference, batches_of(pictures.pixels, spec))
        session = open_as_computed(file) if as_computed else open_session(file)
        differences = compare(expected, session_runner(session, spec), spec, pictures, precision)
    except GraphError as error:
        raise ParityError(f"Not published: {error}") from error
    for difference in differences:
        if not difference.ok:
            raise ParityError(f"Not published: the graph differs from {called}: {difference}.")
    return differences


def compare(
    expected: Outputs, actual: Runner, spec: TrainedSpec, pictures: Pictures, precision: Precision
) -> list[Difference]:
    """The largest difference of each output at each batch size; `expected` holds the outputs of all pictures."""
    found: list[Difference] = []
    for size in batch_sizes(spec.max_batch):
        # Every picture at the largest size; at others one batch, because a graph fails there for all pictures.
        batches = itertools.islice(pictures.batches(size), None if size == spec.max_batch else 1)
        worst: dict[str, Difference] = {}
        for rows in batches:
            outputs = actual(pictures.pixels[rows])
            for name in spec.output_names:
                new = _difference(name, expected[name][rows], outputs[name], rows, pictures, precision)
                worst[name] = max(worst.get(name, new), new, key=lambda one: (np.isnan(one.value), one.value))
        found += worst.values()
    return found


def batch_sizes(largest: int) -> list[int]:
    """1, 2, an odd number and the largest, without those that are too large."""
    odd = next(size for size in (7, 5, 3, 1) if size <= largest)
    return sorted({1, min(2, largest), odd, largest})


def _difference(
    name: str, ours: np.ndarray, theirs: np.ndarray, rows: list[int], pictures: Pictures, precision: Precision
) -> Difference:
    tolerance = TOLERANCES[precision].get(name, TOLERANCES[precision]["scores"])
    if ours.shape != theirs.shape:
        raise GraphError(f"{name} is {list(theirs.shape)} at batch {len(rows)}, not {list(ours.shape)}.")
    distances = tolerance.distances(ours, theirs)
    at = int(np.argmax(distances))  # the first NaN, if there is one
    return Difference(name, len(rows), float(distances[at]), pictures.names[rows[at]], tolerance)
