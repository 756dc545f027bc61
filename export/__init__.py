"""Turns a checkpoint, or an ONNX file from elsewhere, into a checked version in a Triton model repository.

Modules import only what comes before them: onnx_file, tolerances; source, simplify, half_arithmetic, metadata,
pictures, tensorrt; parity, labelled, precision/, foreign/, checkpoint_graph, triton_config; check/; preflight; publish;
exporting, bench. Only labelled and checkpoint_graph load torch, so the others import these two where they need them.
"""

import labelwise.no_telemetry  # noqa: F401 - before any module here imports ONNX Runtime
