"""The query strings of the API, and what they mean for one version of a model."""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from labelwise import tagging
from labelwise.label_names import can_be_shown, clean_name, without_case
from labelwise.spec import LAST_VERSION, TaggerSpec
from labelwise.tagging import Choice, ChoiceError, UnknownLabels
from serving.gateway.problems import GatewayError

_REMEMBERED = 32  # choices: most clients ask the same again, and a choice among many labels takes long
_REMEMBERED_TEXTS = 256  # query strings; clients use few
_LONGEST = 512  # bytes of a query string that is remembered
_LONGEST_LABEL = 200  # of a new word
_PLAIN_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)

T = TypeVar("T")


def remembered(parse: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Returns `parse`, a function of a query string, with a memory for the short ones that came last."""
    short = functools.lru_cache(_REMEMBERED_TEXTS)(parse)

    def call(text: bytes) -> T:
        return short(text) if len(text) <= _LONGEST else parse(text)

    return call


def pairs_of(query_string: bytes) -> list[tuple[str, str]]:
    """Returns the names and values of a query string, in its order."""
    return parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)


ThresholdText = Annotated[
    str,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": r"^[^:,]+:(0(\.\d+)?|1(\.0+)?)(,[^:,]+:(0(\.\d+)?|1(\.0+)?))*$"},
            ],
        }
    ),
]


class LabelQuery(BaseModel):
    """Which model answers, for which labels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="Which model; needed only where there is more than one.")
    version: int | None = Field(None, ge=1, description="Which version; by default the newest.")
    labels: str | None = Field(None, description="Only these labels, separated by commas.", examples=["sea,trees"])
    exclude: str | None = Field(None, description="Not these labels, separated by commas.", examples=["desert"])


class ThresholdQuery(LabelQuery):
    """Which of these labels are tags."""

    top_k: int | None = Field(None, ge=1, description="At most this many, the highest scores first.")
    threshold: ThresholdText | None = Field(
        None,
        description="In place of the model's own: one number for all labels, or `label:number` for some, by commas.",
        examples=["0.4", "sea:0.4,trees:0.6"],
    )


class TagQuery(ThresholdQuery):
    """The query string of /v1/tag and /v1/tag:batch."""

    scores: Literal["tags", "all"] = Field("tags", description="`all` adds every label's score, tag or not.")


class FeedbackQuery(BaseModel):
    """The query string of POST /v1/feedback."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="Which model tagged it; needed only where there is more than one.")
    version: int | None = Field(
        None, ge=1, le=LAST_VERSION, description="Which version tagged it, served or not; by default the newest."
    )
    yes: str = Field("", description="Labels that the photo has, separated by commas; new words are welcome.")
    no: str = Field("", description="Labels that the photo does not have.", examples=["sea,trees"])


def answers_of(spec: TaggerSpec, query: FeedbackQuery) -> dict[str, bool]:
    """By label, whether the photo has it. A label that differs from one of the model's only by case is that one.

    Raises GatewayError `invalid_request` for no answer, two answers, or a label that cannot be shown.
    """
    known = {without_case(label): label for label in spec.labels}
    answers: dict[str, tuple[str, bool]] = {}
    for text, has in ((query.yes, True), (query.no, False)):
        for label in map(clean_name, _joined(spec, text.split(","))):
            field = "yes" if has else "no"
            if not can_be_shown(label):
                raise GatewayError("invalid_request", f"{field}: {label!a} cannot be printed.")
            if len(label) > _LONGEST_LABEL:
                raise GatewayError("invalid_request", f"{field}: a label has at most {_LONGEST_LABEL} characters.")
            key = without_case(label)
            if answers.setdefault(key, (known.get(key, label), has))[1] != has:
                raise GatewayError("invalid_request", f"yes, no: {label} is in both.")
    if not answers:
        raise GatewayError("invalid_request", "yes, no: name at least one label that the photo has or does not have.")
    return dict(answers.values())


@functools.lru_cache(_REMEMBERED)
def choose(spec: TaggerSpec, query: LabelQuery, output: str = "scores") -> Choice:
    """The query, checked against a contract.

    Raises GatewayError `output_not_offered`, and `invalid_request` for labels that the model does not have, and for
    what is not a threshold.
    """
    if output not in spec.output_names:
        offered = ", ".join(spec.output_names)
        raise GatewayError("output_not_offered", f"{spec.name} offers no {output}, only {offered}.")
    labels = None if query.labels is None else _names(spec, query.labels, "labels")
    exclude = None if query.exclude is None else _names(spec, query.exclude, "exclude")
    threshold, top_k = (query.threshold, query.top_k) if isinstance(query, ThresholdQuery) else (None, None)
    try:
        return tagging.choose(spec, labels, exclude, None if threshold is None else _thresholds(threshold), top_k)
    except UnknownLabels as error:
        raise GatewayError("invalid_request", f"{error}; see /v1/models.") from error
    except ChoiceError as error:
        raise GatewayError("invalid_request", f"{error}.") from error


def refuse_repeats(request: Request) -> None:
    """Raises GatewayError for a parameter that is given twice: one of the two would be ignored silently."""
    text = request.scope["query_string"]
    if text and (repeated := _repeated(text)):
        raise GatewayError("invalid_request", f"{repeated}: give it only once, several values separated by commas.")


@remembered
def _repeated(text: bytes) -> str | None:
    names = [name for name, _ in pairs_of(text)]
    if len(names) == len(set(names)):
        return None
    return next(name for name in names if names.count(name) > 1)


def _names(spec: TaggerSpec, text: str, field: str) -> list[str]:
    names = list(_joined(spec, text.split(",")))
    if not names:
        raise GatewayError("invalid_request", f"{field}: name at least one label of {spec.name}; see /v1/models.")
    return names


def _joined(spec: TaggerSpec, pieces: Sequence[str]) -> Iterator[str]:
    """Names of labels. Commas separate them and may also be part of them; an unknown name is yielded as it is."""
    known = set(spec.labels)
    longest = 1 + max(label.count(",") for label in known)
    place = 0
    while place < len(pieces):
        names = [",".join(pieces[place : place + count]).strip() for count in range(longest, 0, -1)]
        name = next((name for name in names if name in known), names[-1])
        place += 1 + name.count(",")
        if name:
            yield name


def _thresholds(text: str) -> float | dict[str, float]:
    if (one := _number(text)) is not None:
        return one
    given: dict[str, float] = {}
    for label, value in _pairs(text):
        if label in given:
            raise GatewayError("invalid_request", f"threshold: {label} has two.")
        given[label] = value
    return given


def _pairs(text: str) -> Iterator[tuple[str, float]]:
    """Pairs of `a:0.4,b:0.5`. A comma that does not follow a number belongs to the label."""
    label = ""
    for piece in text.split(","):
        name, _, number = piece.rpartition(":")
        value = _number(number)
        if value is None or not (label + name).strip():
            label += f"{piece},"
            continue
        yield (label + name).strip(), value
        label = ""
    if label:
        raise GatewayError(
            "invalid_request", "threshold: give one number from 0 to 1, or label:number for each, as sea:0.4,trees:0.6."
        )


def _number(text: str) -> float | None:
    """A number from 0 to 1, or None for anything else."""
    value = plain_number(text.strip())
    return value if value is not None and value <= 1 else None


def plain_number(text: str) -> float | None:
    """A number in plain digits; None for anything else, such as NaN or 1_000, which Python takes for a float."""
    return float(text) if _PLAIN_NUMBER.fullmatch(text) else None
