"""Checks what a graph answers: at any batch size, as the contract promises, and the same alone as in a batch."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from export.check.findings import Finding, verdict
from export.onnx_file import GraphError, Outputs, Runner, batches_of, run_all
from export.parity import Difference, batch_sizes, compare
from export.pictures import Pictures
from export.tolerances import Precision
from labelwise.spec import TrainedSpec

_UNIT = 1e-2  # how far a length or a sum may be from 1, in any precision
_BELOW_ZERO = 1e-6


def check_outputs(
    subject: str, spec: TrainedSpec, run: Runner, pictures: Pictures, precision: Precision
) -> Iterator[Finding]:
    """Runs every picture alone, then in batches of 1, 2, an odd number and the largest."""
    sizes = ", ".join(map(str, batch_sizes(spec.max_batch)))
    try:
        alone = run_all(run, batches_of(pictures.pixels, spec, 1))
        differences = compare(alone, run, spec, pictures, precision)
    except GraphError as error:
        yield verdict(subject, "runs", "", [str(error)])
        return
    yield verdict(subject, "runs", f"{len(pictures.names)} pictures at batch {sizes}", _shape_faults(alone, spec))
    yield from (_values(subject, name, values, pictures) for name, values in alone.items())
    yield _differing(subject, "alone as in a batch", differences)


def check_against(
    subject: str,
    check: str,
    reference: Runner,
    run: Runner,
    spec: TrainedSpec,
    pictures: Pictures,
    precision: Precision,
) -> Finding:
    """Compares the graph with `reference`, such as the checkpoint that it was made from."""
    try:
        expected = run_all(reference, batches_of(pictures.pixels, spec))
        if missing := [name for name in spec.output_names if name not in expected]:
            return verdict(subject, check, "", [f"the run has no {', '.join(missing)}"])
        return _differing(subject, check, compare(expected, run, spec, pictures, precision))
    except GraphError as error:
        return verdict(subject, check, "", [str(error)])


def check_half(subject: str, run: Runner, computed: Runner, spec: TrainedSpec, pictures: Pictures) -> Finding:
    """Compares a graph of half floats as this CPU computes it, in fp32, with itself in half precision, as on a GPU."""
    differing = check_against(subject, "in half precision", run, computed, spec, pictures, "fp16")
    here = "rounded as on a GPU, it differs from this CPU, which computes it in fp32: "
    return replace(differing, found=differing.found.replace("differs ", here, 1))


def _differing(subject: str, check: str, differences: list[Difference]) -> Finding:
    largest = dict.fromkeys((difference.output for difference in differences), 0.0)
    for difference in differences:
        largest[difference.output] = max(largest[difference.output], difference.value)
    found = "differs by at most " + ", ".join(f"{value:.1e} in {name}" for name, value in largest.items())
    return verdict(subject, check, found, [f"differs in {one}" for one in differences if not one.ok])


def _shape_faults(outputs: Outputs, spec: TrainedSpec) -> list[str]:
    return [
        f"{tensor.name} is {outputs[tensor.name].dtype} {list(outputs[tensor.name].shape[1:])}, the contract says "
        f"{tensor.dtype} {list(tensor.shape)}"
        for tensor in spec.outputs
        if outputs[tensor.name].shape[1:] != tensor.shape or outputs[tensor.name].dtype != tensor.dtype
    ]


def _values(subject: str, name: str, values: np.ndarray, pictures: Pictures) -> Finding:
    """values [n, ...]: finite, and what an output of that name promises."""
    flat = values.reshape(len(values), -1)
    finite = np.isfinite(flat).all(axis=1)
    if not finite.all():
        return verdict(subject, name, "", [f"not finite on {pictures.names[int(np.argmin(finite))]}"])
    found = f"{flat.min():.4f} to {flat.max():.4f}"
    off, promise = np.zeros(len(values)), "finite"
    if name == "scores":
        off, promise = np.maximum(-flat, flat - 1).max(axis=1) - _BELOW_ZERO, "within 0..1"
    elif name == "embeddings":
        lengths = np.linalg.norm(values, axis=-1).reshape(len(values), -1)
        off, promise = np.abs(lengths - 1).max(axis=1) - _UNIT, "of length 1"
        found = f"lengths {lengths.min():.4f} to {lengths.max():.4f}"
    elif name == "attention":
        sums = values.sum(axis=(-2, -1)).reshape(len(values), -1)
        off = np.maximum(np.abs(sums - 1).max(axis=1) - _UNIT, -flat.min(axis=1) - _BELOW_ZERO)
        found, promise = f"sums {sums.min():.4f} to {sums.max():.4f}", "at least 0 and a sum of 1 per label"
    faults = [f"{found}, not {promise}, on {pictures.names[int(off.argmax())]}"] if off.max() > 0 else []
    return verdict(subject, name, f"{found}: {promise}", faults)
