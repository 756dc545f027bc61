"""What a model can run on: which devices this machine has, and how ONNX Runtime reaches them."""

import labelwise.no_telemetry  # noqa: F401 - before any module here imports ONNX Runtime
