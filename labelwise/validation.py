"""What a pydantic model refused, in words for a person."""

from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails


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
    return refusal_of(error.errors(include_url=False, include_input=False, include_context=False)[0])


def refusal_of(details: ErrorDetails) -> Refusal:
    return Refusal(details["type"], details["loc"], details["msg"].removeprefix("Value error, "))
