"""Labelled photos in, a checkpoint out: data, model, losses and the two-stage loop. Needs the `train` extra."""

import labelwise.no_telemetry  # noqa: F401 - before any module here imports ONNX Runtime
