"""Keeps ONNX Runtime from reporting usage; imported before ONNX Runtime is.

Its wheel for GPUs otherwise writes a device id into the user's home and looks for the server that collects the data.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
