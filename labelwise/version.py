"""The installed version of labelwise."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("labelwise")
except PackageNotFoundError:  # a bare checkout on the path, not installed
    VERSION = "0+unknown"
