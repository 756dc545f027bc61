"""What people set: splits `key=value`, and says in plain words what a pydantic model refused."""

from dataclasses import dataclass

from pydantic import ValidationError

from labelwise.errors import LabelwiseError


@dataclass(frozen=True)
class Refusal:
    """One refused value: pydantic's `kind` of error, the `place` of the value in what was validated, and why."""

    kind: str
    place: tuple[int | str, ...]
    reason: str

    @property
    def field(self) -> str:
        """The place as dotted names: image.mean.0. Empty if the whole was refused."""
        return ".".join(map(str, self.place))

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" if self.place else self.reason


def first_refusal(error: ValidationError) -> Refusal:
    details = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return Refusal(details["type"], details["loc"], details["msg"].removeprefix("Value error, "))


def split_assignment(text: str) -> tuple[str, str]:
    """The key and the value of `key=value`. Raises LabelwiseError if `text` has no `=` or no key."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise LabelwiseError(f"The setting {text!r} is not key=value.")
    return key.strip(), value
