"""config.pbtxt of the three models, built as Triton's own protobuf message: an unknown field cannot be written."""

from typing import Any, Literal

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from labelwise.image import MAX_PIXELS
from labelwise.repository import DECODE_SUFFIX, MODEL_SUFFIX
from labelwise.spec import LABELS_FILE, TaggerSpec, TensorSpec

Backend = Literal["onnxruntime", "python"]

ENSEMBLE_INPUT = "IMAGE"
_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}
_KEPT_VERSIONS = 2
_QUEUE = {
    "timeout_action": "REJECT",
    "default_timeout_microseconds": 10_000_000,
    "allow_timeout_override": True,
    "max_queue_size": 512,
}


def ensemble_config(spec: TaggerSpec) -> str:
    """Encoded bytes -> every output: the model for clients that speak plain Triton."""
    decode, model = spec.name + DECODE_SUFFIX, spec.name + MODEL_SUFFIX
    pixels, outputs = spec.input.name, {name: name for name in spec.output_names}
    steps = [
        {"model_name": decode, "input_map": {ENSEMBLE_INPUT: ENSEMBLE_INPUT}, "output_map": {pixels: pixels}},
        {"model_name": model, "input_map": {pixels: pixels}, "output_map": outputs},
    ]
    return _to_pbtxt(
        _common(spec, spec.name)
        | {
            "platform": "ensemble",
            "input": [_ENCODED],
            "output": _outputs(spec),
            "ensemble_scheduling": {"step": [step | {"model_version": -1} for step in steps]},
        }
    )


def decode_config(spec: TaggerSpec) -> str:
    """Encoded bytes -> pixels, in one Python process that decodes with threads of its own."""
    image = spec.image
    settings = image.model_dump(include={"height", "width", "resize", "interpolation"}) | {"max_pixels": MAX_PIXELS}
    return _to_pbtxt(
        _common(spec, spec.name + DECODE_SUFFIX)
        | {
            "backend": "python",
            "input": [_ENCODED],
            "output": [_tensor(spec.input)],
            "dynamic_batching": {"default_queue_policy": _QUEUE},
            "instance_group": [{"kind": "KIND_CPU", "count": 1}],
            "parameters": {key: {"string_value": str(value)} for key, value in settings.items()},
        }
    )


def model_config(spec: TaggerSpec, backend: Backend) -> str:
    """Pixels -> every output, warmed up at batch 1 and at the largest."""
    # ONNX Runtime's own backend takes a GPU where there is one; the Python backend's session is on the CPU.
    kind = "KIND_AUTO" if backend == "onnxruntime" else "KIND_CPU"
    return _to_pbtxt(
        _common(spec, spec.name + MODEL_SUFFIX)
        | {
            "backend": backend,
            "input": [_tensor(spec.input)],
            "output": _outputs(spec),
            "dynamic_batching": {"max_queue_delay_microseconds": 500, "default_queue_policy": _QUEUE},
            "instance_group": [{"kind": kind, "count": 1}],
            "model_warmup": [_warmup(spec, batch) for batch in sorted({1, spec.max_batch})],
        }
    )


_ENCODED = {"name": ENSEMBLE_INPUT, "data_type": "TYPE_STRING", "dims": [1]}


def _common(spec: TaggerSpec, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "max_batch_size": spec.max_batch,
        "version_policy": {"latest": {"num_versions": _KEPT_VERSIONS}},
    }


def _tensor(tensor: TensorSpec) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": _TYPES[tensor.dtype], "dims": list(tensor.shape)}


def _outputs(spec: TaggerSpec) -> list[dict[str, Any]]:
    """With the labels' file on the scores, so that `class_count` requests answer with names."""
    scores, *others = map(_tensor, spec.outputs)
    return [scores | {"label_filename": LABELS_FILE}, *others]


def _warmup(spec: TaggerSpec, batch: int) -> dict[str, Any]:
    zeros = {"data_type": _TYPES[spec.input.dtype], "dims": list(spec.input.shape), "zero_data": True}
    return {"name": f"batch_{batch}", "batch_size": batch, "inputs": {spec.input.name: zeros}}


def _to_pbtxt(config: dict[str, Any]) -> str:
    return text_format.MessageToString(json_format.ParseDict(config, model_config_pb2.ModelConfig()))
