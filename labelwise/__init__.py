"""What every stage of labelwise agrees on: the tagger's contract and the one way to read an image."""

import os
from importlib.metadata import PackageNotFoundError, version

from labelwise.errors import LabelwiseError

# ONNX Runtime's wheel for GPUs otherwise writes a device id into the user's home when it is imported, and looks for its
# makers' collector of usage data.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    __version__ = version("labelwise")
except PackageNotFoundError:  # a bare checkout on the path, not installed
    __version__ = "0+unknown"

__all__ = ["LabelwiseError", "__version__"]
