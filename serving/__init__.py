"""The gateway, its engines and its page. Needs the base install only; never torch."""

import labelwise.no_telemetry  # noqa: F401 - before any module here imports ONNX Runtime
