"""The one contract between training, export and serving, stored as tagger.json beside every artefact.

A run has a TrainedSpec. Publishing adds a name and a version, which makes it a TaggerSpec.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from labelwise.errors import SpecError
from labelwise.files import read_regular_file, write_atomically
from labelwise.validation import first_refusal
from labelwise.version import VERSION

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

SPEC_FILE = "tagger.json"
LAST_VERSION = 10**15 - 1  # JSON and Triton's int64 keep it exactly
LABELS_FILE = "labels.txt"

_INDEPENDENT_HEAD = "class-evidence"
TAUGHT_OUTPUTS = ("scores", "embeddings", "attention")
_LARGEST_FILE = 64 * 2**20  # bytes of a tagger.json

# Fits a URL, a folder name and a Triton configuration; without dots, so that it cannot leave its folder.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

Precision = Literal["fp32", "fp16", "int8"]  # the number format of a graph, the most exact first
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Probability = Annotated[float, Field(ge=0, le=1)]
Triple = tuple[float, float, float]
Positive = Annotated[float, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ImageSpec(_Frozen):
    """How a photo becomes the model's input. `mean` and `std` are for values from 0 to 1; the graph applies them."""

    height: int = Field(ge=8, le=4096)
    width: int = Field(ge=8, le=4096)
    resize: Literal["squash", "crop"] = "squash"
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"
    mean: Triple = (0.485, 0.456, 0.406)
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)


class TensorSpec(_Frozen):
    """One tensor of the exported graph; `shape` leaves the batch dimension out."""

    name: str = Field(min_length=1)
    dtype: Literal["uint8", "float32"]
    shape: tuple[Annotated[int, Field(ge=1)], ...]


class DataSpec(_Frozen):
    """What the tagger was trained on; `fingerprint` is a SHA-256 over the sorted file names, labels and splits."""

    fingerprint: str
    train_images: int = Field(ge=0)
    val_images: int = Field(ge=0)
    train_counts: dict[str, int]


class GraphSpec(_Frozen):
    """A graph of a published tagger: the same tagger in one number format.

    `differences` are the largest distances from its source by output, as export/tolerances.py measures them.
    `map_change` is the mAP of this graph less that of its source, 0..1, on `labelled_photos` photos; null if no
    labelled photos were given.
    """

    precision: Precision
    file: str = Field(pattern=r"^model(\.(fp32|fp16|int8))?\.onnx$")
    sha256: Sha256
    differences: dict[str, float]
    map_change: float | None = None
    labelled_photos: int = Field(0, ge=0)


class TaughtLabel(_Frozen):
    """A label that `labelwise teach` added or improved: in which version, from how many photos.

    `average_precision` and `f1`, 0..1, and their spreads come from cross-validation on these photos; the tagger's
    `metrics` do not cover it.
    """

    version: int = Field(ge=1, le=LAST_VERSION)
    improved: bool
    photos_with: int = Field(ge=1)
    photos_without: int = Field(ge=1)
    average_precision: Probability
    average_precision_spread: float = Field(ge=0)
    f1: Probability
    f1_spread: float = Field(ge=0)


class TrainedSpec(_Frozen):
    """The contract of a tagger that is not published yet: what training knows, and what stands in a run's tagger.json.

    The tagger.json that labelwise 0.1 wrote into a run also has a placeholder for a name and a version. Reading drops
    them.
    """

    format: Literal[1] = 1
    labels: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    thresholds: tuple[Probability, ...]
    image: ImageSpec
    input: TensorSpec
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)
    embedding_dim: int | None = Field(ge=1, description="null for a tagger without label-level embeddings")
    attention_grid: tuple[int, int] | None
    max_batch: int = Field(ge=1, le=4096)
    backbone: str
    metrics: dict[str, float]
    data: DataSpec
    training: dict[str, JsonValue]
    producer: str
    weights_sha256: Sha256 = Field(description="of the weights file beside this one")

    @model_validator(mode="before")
    @classmethod
    def _without_placeholders(cls, content: object) -> object:
        if cls is TrainedSpec and isinstance(content, dict):
            return {field: value for field, value in content.items() if field not in _Published.model_fields}
        return content

    @model_validator(mode="after")
    def _consistent(self) -> "Self":
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: each label must be unique")
        if any(not label.isprintable() or label != label.strip() for label in self.labels):
            raise ValueError("labels: each must be printable text without surrounding spaces")
        if len(self.thresholds) != len(self.labels):
            raise ValueError(f"thresholds: {len(self.labels)} needed, one per label, not {len(self.thresholds)}")
        if self.input.shape != (self.image.height, self.image.width, 3):
            raise ValueError("input.shape: must be [image.height, image.width, 3]")
        if self.outputs[0].name != "scores" or self.outputs[0].shape != (len(self.labels),):
            raise ValueError("outputs: the first must be 'scores' with one value per label")
        return self

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.outputs)

    @property
    def is_teachable(self) -> bool:
        """Whether its labels share no weights, so that `labelwise teach` can change one and leave the others as is."""
        model = self.training.get("model")
        has_head = isinstance(model, dict) and model.get("head") == _INDEPENDENT_HEAD
        return has_head and self.output_names == TAUGHT_OUTPUTS

    def changed(self, **changes: Any) -> "Self":
        """Returns a validated copy with other values for some fields."""
        return self.model_validate(dict(self) | changes)

    def published(self, name: str, version: int, graphs: Sequence[GraphSpec]) -> "TaggerSpec":
        """Returns the contract as this release publishes it, with its exported `graphs`, the most exact first."""
        added = {"name": name, "version": version, "graphs": graphs, "weights_sha256": graphs[0].sha256}
        return TaggerSpec.model_validate(dict(self) | added | {"producer": f"labelwise {VERSION}"})

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Self":
        """Reads and validates `path`, a tagger.json or a folder that holds one.

        Raises SpecError, which names the wrong field.
        """
        file = path / SPEC_FILE if path.is_dir() else path
        try:
            text = read_regular_file(file, _LARGEST_FILE).decode("utf-8")
        except OSError as error:
            raise SpecError(f"{file} cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise SpecError(f"{file} cannot be read: it is not UTF-8 text") from error
        return cls.parse(text, str(file))

    @classmethod
    def parse(cls, text: str, source: str) -> "Self":
        """Validates JSON `text`; errors call it `source`."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise invalid_spec(source, error) from error

    def write(self, folder: Path) -> None:
        """Writes tagger.json into `folder` atomically: readers see the old file or the new one."""
        write_atomically(folder / SPEC_FILE, self.to_json().encode())


class _Published(_Frozen):
    """What publishing adds. A base class, for these fields come first in tagger.json."""

    format: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    version: int = Field(ge=1, le=LAST_VERSION)
    graphs: tuple[GraphSpec, ...] = Field((), description="the most exact first; none: exported by labelwise 0.2")
    taught: dict[str, TaughtLabel] = Field(default={}, description="by label: what `labelwise teach` added or improved")


class TaggerSpec(TrainedSpec, _Published):
    """The contract of a published tagger. Nothing else in the code knows a size, a label or a tensor name.

    Where it is served, `weights_sha256` is that of the graph that runs.
    """

    @model_validator(mode="after")
    def _has_its_graph(self) -> "Self":
        if len({graph.precision for graph in self.graphs}) < len(self.graphs):
            raise ValueError("graphs: each precision must be unique")
        if self.graphs and self.graph is None:
            raise ValueError("weights_sha256: must be that of one of the graphs")
        if unknown := self.taught.keys() - {*self.labels}:
            raise ValueError(f"taught: {min(unknown)!r} is not one of the labels")
        return self

    @property
    def graph(self) -> GraphSpec | None:
        """The graph with `weights_sha256`; None if the contract lists no graphs."""
        return next((graph for graph in self.graphs if graph.sha256 == self.weights_sha256), None)

    def with_graph(self, graph: GraphSpec) -> "Self":
        """Returns this contract as it is served by `graph`, one of `graphs`."""
        return self.model_copy(update={"weights_sha256": graph.sha256})

    def __hash__(self) -> int:  # a version never changes, so its name, number and weights tell it from others
        return hash((self.name, self.version, self.weights_sha256))


def invalid_spec(source: str, error: ValidationError) -> SpecError:
    """The error for a tagger.json, called `source`, that pydantic refused."""
    return SpecError(f"{source} is not a valid tagger: {first_refusal(error)}")
