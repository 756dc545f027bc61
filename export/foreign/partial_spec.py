"""What a graph from elsewhere cannot say itself: a tagger.json of which only labels and image are required."""

import json
import unicodedata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from labelwise.errors import SpecError
from labelwise.spec import DataSpec, ImageSpec, Probability, TrainedSpec
from labelwise.validation import first_refusal

_HINT = 'at least {"labels": ["cat", …], "image": {"height": 224, "width": 224}} is needed'


class ForeignSpec(BaseModel):
    """The hand-written part of a contract; the rest is read from the graph or stays unknown.

    `image.mean` and `image.std` normalise what a graph with float input takes. `thresholds` may be one for all labels.
    `logits` says whether a sigmoid is missing, `scores` which output holds them, where the graph leaves doubt.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    labels: tuple[str, ...] = Field(min_length=1)
    image: ImageSpec
    thresholds: tuple[Probability, ...] | Probability = 0.5
    max_batch: int = Field(32, ge=1, le=4096)
    logits: bool | None = None
    scores: str | None = None
    backbone: str = "unknown"
    metrics: dict[str, float] = {}
    data: DataSpec | None = None
    training: dict[str, JsonValue] = {}

    @field_validator("labels")
    @classmethod
    def _composed(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        """In Unicode's form NFC, as training writes labels and as clients ask for them."""
        return tuple(unicodedata.normalize("NFC", label) for label in labels)

    @property
    def label_thresholds(self) -> tuple[float, ...]:
        return self.thresholds if isinstance(self.thresholds, tuple) else (self.thresholds,) * len(self.labels)


def read_foreign_spec(file: Path) -> tuple[ForeignSpec, TrainedSpec | None]:
    """The part that counts, and the whole contract if `file` is a complete one. SpecError names the field."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        content = json.loads(text)
    except OSError as error:
        raise SpecError(f"{file} cannot be read: {error.strerror}; {_HINT}.") from error
    except (ValueError, RecursionError) as error:  # neither UTF-8 nor JSON, or nested without end
        raise SpecError(f"{file} is not a valid tagger: it is no JSON; {_HINT}.") from error
    if isinstance(content, dict) and "format" in content:  # as training and export write it
        complete = TrainedSpec.parse(text, str(file))
        return ForeignSpec(**complete.model_dump(include={*ForeignSpec.model_fields})), complete
    try:
        spec = ForeignSpec.model_validate_json(text)
    except ValidationError as error:
        refusal = first_refusal(error)
        hint = f"; {_HINT}" if refusal.kind in ("missing", "model_type") else ""
        raise SpecError(f"{file} is not a valid tagger: {refusal}{hint}.") from error
    if len(spec.label_thresholds) != len(spec.labels):
        raise SpecError(
            f"{file} is not a valid tagger: thresholds: {len(spec.labels)} needed, one per label, or just one."
        )
    return spec, None
