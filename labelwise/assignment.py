"""Settings given as `key=value` on the command line."""

from labelwise.errors import LabelwiseError


def split_assignment(text: str) -> tuple[str, str]:
    """The key and the value of `key=value`. Raises LabelwiseError if `text` has no `=` or no key."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise LabelwiseError(f"The setting {text!r} is not key=value.")
    return key.strip(), value
