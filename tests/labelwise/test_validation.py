"""A refused value is described by its field and the reason, without pydantic's prefixes."""

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from labelwise.validation import first_refusal


class _Size(BaseModel):
    width: int
    height: int

    @model_validator(mode="after")
    def _is_square(self) -> "_Size":
        if self.width != self.height:
            raise ValueError("width and height differ")
        return self


class _Photo(BaseModel):
    sizes: list[_Size]


@pytest.mark.parametrize(
    ("content", "field", "sentence"),
    [
        ({"sizes": [{"width": 1}]}, "sizes.0.height", "sizes.0.height: Field required"),
        ({"sizes": [{"width": 1, "height": 2}]}, "sizes.0", "sizes.0: width and height differ"),
        ([], "", "Input should be a valid dictionary or instance of _Photo"),
    ],
)
def test_a_refusal_names_the_field_and_the_reason(content: object, field: str, sentence: str):
    with pytest.raises(ValidationError) as caught:
        _Photo.model_validate(content)
    refusal = first_refusal(caught.value)
    assert (refusal.field, str(refusal)) == (field, sentence)
