"""Turns a checkpoint, or an ONNX file from elsewhere, into a checked version in a Triton model repository.

Modules import only what stands before them: onnx_file, tolerances, source; simplify, half_arithmetic, metadata,
pictures; parity, labelled, precision/, foreign/, checkpoint_graph; tensorrt, triton_config; check/, preflight, publish;
exporting and bench. Only labelled and checkpoint_graph load torch, so others import these two when they need them.
"""

import labelwise.no_telemetry  # noqa: F401 - before any module here imports ONNX Runtime
