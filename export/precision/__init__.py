"""The exported graph in another precision: half floats for GPUs, 8-bit integers for CPUs. Inputs and outputs stay."""

from pathlib import Path

from export.metadata import carry_over
from export.onnx_file import load_model, save_model
from export.pictures import Pictures
from export.precision.half import to_half
from export.precision.int8 import Quantization, quantize
from export.simplify import simplify
from export.tolerances import Precision
from labelwise.spec import TrainedSpec


def convert(file: Path, spec: TrainedSpec, precision: Precision, photos: Pictures | None) -> Quantization | None:
    """Rewrite the fp32 graph in `file` in `precision`; `photos` calibrate int8, and what that did is returned.

    Raises DataError: int8 without photos, or with too few. GraphError: a graph that cannot be converted.
    LabelwiseError: one that loses too much.
    """
    if precision == "fp32":
        return None
    model = load_model(file)
    report = None
    if precision == "fp16":
        converted = to_half(model)
    else:
        converted, report = quantize(model, spec, photos)
    converted = simplify(converted)
    carry_over(model, converted, {"precision": precision, **(report.facts() if report else {})})
    save_model(converted, file)
    return report
