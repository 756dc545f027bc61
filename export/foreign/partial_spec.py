"""What a graph from elsewhere cannot say: a tagger.json in which only labels and image are required."""

import json
import unicodedata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from labelwise.errors import SpecError
from labelwise.spec import DataSpec, ImageSpec, Probability, TrainedSpec
from labelwise.validation import first_refusal

_HINT = 'at least {"labels": ["cat", …], "image": {"height": 224, "width": 224}} is needed'


class ForeignSpec(BaseModel):
    """The part of a contract that is written by hand; the rest comes from the graph or stays unknown.

    `image.mean` and `image.std` normalise the input of a graph that takes floats. `thresholds` may be one number for
    all labels. If the graph leaves doubt, `logits` says whether a sigmoid is missing, and `scores` names the output.
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
        """Converts labels to Unicode's form NFC, which training writes and clients ask for."""
        return tuple(unicodedata.normalize("NFC", label) for label in labels)

    @property
    def label_thresholds(self) -> tuple[float, ...]:
        return self.thresholds if isinstance(self.thresholds, tuple) else (self.thresholds,) * len(self.labels)


def read_foreign_spec(file: Path) -> tuple[ForeignSpec, TrainedSpec | None]:
    """Reads `file`; also returns the whole contract if it is complete. Raises SpecError, which names the field."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        content = json.loads(text)
    except OSError as error:
        raise SpecError(f"{file} cannot be read: {error.strerror}; {_HINT}.") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deep
        raise SpecError(f"{file} is not a valid tagger: it is not JSON; {_HINT}.") from error
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
