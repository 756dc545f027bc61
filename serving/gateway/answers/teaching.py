"""The answers about lessons: what was learned, what was published, what was taught until now."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from labelwise.spec import TaggerSpec, TaughtLabel

Share = Annotated[float, Field(ge=0, le=1)]
_INDEX = "Its place among the files of the request, from 0; null: it was not sent with this request."


class NamedPhoto(BaseModel):
    photo: str = Field(description="As the request called it.")
    index: int | None = Field(description=_INDEX)


class DoubtfulPhoto(NamedPhoto):
    """A photo whose score by cross-validation contradicts its answer: wrongly sorted, or of a kind to add more of."""

    given: Literal["yes", "no"]
    score: Share


class LeftOutPhoto(NamedPhoto):
    """A photo that nothing was learned from, such as a broken one or a copy."""

    reason: str


@dataclass(kw_only=True)
class VersionAnswer:
    """The version that was published. It is served now."""

    model: str
    version: int
    previous_version: Annotated[int, Field(description="The newest one before.")]
    request_id: str


@dataclass(kw_only=True)
class TeachAnswer(VersionAnswer):
    """What was learned. The numbers come from cross-validation on these photos; spreads are standard deviations."""

    label: str
    improved: Annotated[bool, Field(description="The model had this label before.")]
    photos_with: int
    photos_without: int
    average_precision: Share
    average_precision_spread: float
    f1: Share
    f1_spread: float
    threshold: Share
    advice: Annotated[str | None, Field(description="Whether more photos would help; null: hardly.")]
    doubtful: Annotated[list[DoubtfulPhoto], Field(description="At most five, the most doubtful first.")]
    left_out: list[LeftOutPhoto]


class TaughtAnswer(BaseModel):
    """By label: in which version it was taught, from how many photos, and what to expect of it."""

    model: str
    version: int
    taught: dict[str, TaughtLabel]


class PublishedVersion(BaseModel):
    version: int
    served: bool
    labels: int = Field(description="How many.")
    taught: list[str]


class VersionsAnswer(BaseModel):
    """Every whole version in the model repository, the newest last."""

    model: str
    versions: list[PublishedVersion]


def make_teach_answer(
    result: Mapping[str, Any], named: Callable[[str], NamedPhoto], told: Callable[[str], str], request_id: str
) -> TeachAnswer:
    """`result` is that of `labelwise teach --json` for one label.

    `named` says which photo of the request a file is, and `told` rewrites a sentence about files for the client.
    """
    (learned,) = result["labels"]
    doubtful = [DoubtfulPhoto(**{**each, **dict(named(each["photo"]))}) for each in learned["doubtful"]]
    left_out = [LeftOutPhoto(**dict(named(each["photo"])), reason=told(each["reason"])) for each in result["left_out"]]
    published = {name: result[name] for name in ("model", "version", "previous_version")}
    return TeachAnswer(**published, **{**learned, "doubtful": doubtful}, left_out=left_out, request_id=request_id)


def make_taught_answer(spec: TaggerSpec) -> TaughtAnswer:
    return TaughtAnswer(model=spec.name, version=spec.version, taught=spec.taught)
