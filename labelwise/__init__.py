"""What every stage of labelwise agrees on: the tagger's contract and the one way to read an image."""

from importlib.metadata import PackageNotFoundError, version

from labelwise.errors import LabelwiseError

try:
    __version__ = version("labelwise")
except PackageNotFoundError:  # a bare checkout on the path, not installed
    __version__ = "0+unknown"

__all__ = ["LabelwiseError", "__version__"]
