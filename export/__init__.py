"""Turns a checkpoint, or an ONNX file from elsewhere, into a checked version in a Triton model repository.

Only labelled and checkpoint_graph load torch, so the other modules import these two where they need them.
"""

import labelwise.no_telemetry  # noqa: F401 - before any module here imports ONNX Runtime
