"""A checkpoint in, a checked Triton model repository out. Needs the `export` extra."""

import labelwise.no_telemetry  # noqa: F401 - before any module here imports ONNX Runtime
