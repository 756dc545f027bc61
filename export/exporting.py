"""`labelwise export`: run or foreign ONNX file -> graph -> parity -> repository. A failure publishes nothing."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from export.foreign import open_foreign
from export.half_arithmetic import open_as_computed
from export.onnx_file import load_model, save_model, session_runner
from export.parity import Difference, check_parity
from export.pictures import NO_EVIDENCE, Evidence, Pictures, pictures_for
from export.precision import convert
from export.precision.int8 import MOST_PHOTOS, Quantization, enough, quantize
from export.publish import check_compatible, next_version, publish, staging
from export.source import Source
from export.tensorrt import Plan, build_plan, find_builder
from export.tolerances import Precision, coarser
from export.triton_config import Backend, ServingOptions
from labelwise.errors import LabelwiseError
from labelwise.files import sha256_of
from labelwise.label_names import case_fault
from labelwise.repository import WEIGHTS_FILE, tagger_of
from labelwise.spec import NAME_PATTERN, SPEC_FILE, TaggerSpec, TrainedSpec
from labelwise.validation import first_refusal, split_assignment

if TYPE_CHECKING:
    from export.labelled import LabelledChange


@dataclass(frozen=True)
class Target:
    """Where and how to publish.

    `version` None is the next one; `precision` is the graph's; `keep` is the number of versions to keep, None for all;
    `plan` is the precision of a TensorRT plan to build, None for no plan.
    """

    repository: Path
    name: str
    version: int | None = None
    precision: Precision = "fp32"
    backend: Backend = "onnxruntime"
    options: ServingOptions = field(default_factory=ServingOptions)
    keep: int | None = None
    plan: Precision | None = None


@dataclass(frozen=True)
class Export:
    """What was published, and how far it is from its source."""

    spec: TaggerSpec
    differences: list[Difference]
    quantization: Quantization | None
    change: "LabelledChange | None"


def make_options(settings: list[str]) -> ServingOptions:
    """Makes ServingOptions from `key=value` texts. Raises LabelwiseError, which names the wrong one."""
    try:
        return TypeAdapter(ServingOptions).validate_python(dict(map(split_assignment, settings)))
    except ValidationError as error:
        raise LabelwiseError(f"The setting {first_refusal(error)}.") from error


def open_source(path: Path, spec_file: Path | None) -> Source:
    """Opens the trained run in the folder `path`, or the ONNX file `path` from elsewhere that `spec_file` describes.

    A run needs the `export` extra, an ONNX file only `onnx`. Raises LabelwiseError if `path` is neither, if the graph
    cannot be served, or if `spec_file` disagrees with it.
    """
    if spec_file:
        return open_foreign(path, spec_file)
    if path.is_file():
        raise LabelwiseError(f"{path} needs --spec: a tagger.json that names its labels and image size.")
    from export.checkpoint_graph import open_run

    return open_run(path)


def export_tagger(path: Path, spec_file: Path | None, target: Target, evidence: Evidence = NO_EVIDENCE) -> Export:
    """Publishes what `open_source` opens.

    Raises LabelwiseError, also if the name is not allowed, the repository cannot be written or a check fails.
    """
    _check_target(target)
    source = open_source(path, spec_file)
    spec = source.spec
    if fault := case_fault(spec.labels):
        file = spec_file or path / SPEC_FILE
        raise LabelwiseError(f"Not published: {fault}. Rename one of them in {file}, at the same place in the list.")
    pictures = pictures_for(spec, evidence.images or evidence.calibrate)
    photos = pictures_for(spec, evidence.calibrate, MOST_PHOTOS) if evidence.calibrate else None
    if "int8" in (target.precision, target.plan):
        enough(photos)
    with staging(target.repository) as stage:
        number = target.version or next_version(target.repository, target.name)
        check_compatible(target.repository, target.name, number, spec)
        weights = stage / WEIGHTS_FILE
        source.write(target.name, number, weights)
        differences = check_parity(source.reference, source.called, spec, weights, pictures, source.precision)
        plans = [_build_plan(weights, spec, target.plan, photos)] if target.plan else []
        quantization = convert(weights, spec, target.precision, photos)
        if target.precision != "fp32":
            precision = coarser(source.precision, target.precision)
            differences = check_parity(source.reference, source.called, spec, weights, pictures, precision, True)
        change = _labelled_change(source, weights, evidence.data)
        published = spec.published(target.name, number, sha256_of(weights))
        publish(target.repository, stage, weights, published, target.backend, target.options, plans, target.keep)
    return Export(published, differences, quantization, change)


def _build_plan(weights: Path, spec: TrainedSpec, precision: Precision, photos: Pictures | None) -> Plan:
    model = load_model(weights)  # TensorRT gets weights as constants, not as the results of Casts
    if precision == "int8":
        model = quantize(model, spec, photos, symmetric=True)[0]
    graph = weights.with_name("plan.onnx")
    save_model(model, graph)
    return build_plan(graph, spec, weights.parent, precision)


def _labelled_change(source: Source, weights: Path, data: str | None) -> "LabelledChange | None":
    if data is None:
        return None
    from export.labelled import labelled_change

    graph = session_runner(open_as_computed(weights), source.spec)
    return labelled_change(data, source.spec, source.reference, graph)


def _check_target(target: Target) -> None:
    """Refuses what can be refused before anything slow."""
    if not re.fullmatch(NAME_PATTERN, target.name):
        raise LabelwiseError(f"{target.name!r} cannot name a model: use letters, digits, - and _, at most 64, no path.")
    if tagger_of(target.name) != target.name:
        raise LabelwiseError(f"{target.name!r} cannot name a model: names ending in _decode and _model are taken.")
    if target.plan:
        find_builder()
