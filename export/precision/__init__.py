"""Converts an exported graph to half floats for GPUs or 8-bit integers for CPUs. Inputs and outputs stay the same."""

from pathlib import Path

from export.half_storage import halves_of, in_halves
from export.metadata import carry_over
from export.onnx_file import load_model, load_structure, save_model
from export.pictures import Pictures
from export.precision.half import to_half
from export.precision.int8 import Quantization, quantize
from export.tolerances import Precision
from labelwise.spec import TrainedSpec


def convert(file: Path, spec: TrainedSpec, precision: Precision, photos: Pictures | None) -> Quantization | None:
    """Rewrites the fp32 graph in `file` in `precision`; `photos` calibrate int8, whose result is returned.

    Raises DataError if int8 has too few photos, GraphError if the graph cannot be converted, and LabelwiseError if it
    loses too much.
    """
    if precision == "fp32":
        return None
    model = load_model(file)
    report = None
    if precision == "fp16":
        converted = to_half(model)
    else:
        converted, report = quantize(model, spec, photos)
    carry_over(model, converted, {"precision": precision, **(report.facts() if report else {})})
    if halves := halves_of(load_structure(file)):  # a run's graph; layers that stay in fp32 may be stored so, too
        converted = in_halves(converted, halves)
    save_model(converted, file)
    return report


def convert_for_tensorrt(
    file: Path, graph: Path, spec: TrainedSpec, precision: Precision, photos: Pictures | None
) -> None:
    """Writes the fp32 graph in `file` into `graph`, in `precision` and in the form that a plan is built from.

    There weights are constants, not the results of Casts, and the integers of int8 are symmetric. Raises as `convert`.
    """
    model = load_model(file)
    if precision == "fp16":
        model = to_half(model)
    elif precision == "int8":
        model = quantize(model, spec, photos, symmetric=True)[0]
    save_model(model, graph)
