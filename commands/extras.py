"""Which extra of labelwise a missing package comes with."""

_EXTRA_OF = {
    "torch": "train",
    "timm": "train",
    "torchvision": "train",
    "sklearn": "train",
    "safetensors": "train",
    "webdataset": "train",
    "matplotlib": "train",
    "jinja2": "train",
    "tensorboard": "train",
    "yaml": "train",
    "onnx": "onnx",
    "google": "onnx",
    "onnxscript": "export",
    "pytriton": "triton",
    "opentelemetry": "otel",
    "ray": "ray",
    "numkong": "search",
}


def how_to_install(error: ModuleNotFoundError) -> str | None:
    """Says in one line what brings the package that is missing; None if it belongs to no extra."""
    extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
    return extra and f"this needs the {extra!r} extra: pip install 'labelwise[{extra}]'"
