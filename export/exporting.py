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

    @property
    def calibrates(self) -> bool:
        return "int8" in (self.precision, self.plan)


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


def export_run(run: Path, target: Target, evidence: Evidence = NO_EVIDENCE) -> Export:
    """Publishes the checkpoint in `run`. Needs the `export` extra.

    Raises LabelwiseError if there is no checkpoint, the name is not allowed, the repository cannot be written or a
    check fails.
    """
    _check(target, evidence)
    from export.checkpoint_graph import open_run

    return _export(open_run(run), run / SPEC_FILE, target, evidence)


def export_onnx(file: Path, spec_file: Path, target: Target, evidence: Evidence = NO_EVIDENCE) -> Export:
    """Publishes an ONNX `file` from other software; `spec_file` says what its graph cannot.

    Needs only the `onnx` extra. Raises LabelwiseError if the graph cannot be served or the spec disagrees with it, and
    as `export_run` does.
    """
    _check(target, evidence)
    return _export(open_foreign(file, spec_file), spec_file, target, evidence)


def _export(source: Source, spec_file: Path, target: Target, evidence: Evidence) -> Export:
    spec = source.spec
    _check_labels(spec, spec_file)
    pictures = pictures_for(spec, evidence.images or evidence.calibrate)
    photos = pictures_for(spec, evidence.calibrate, MOST_PHOTOS) if evidence.calibrate else None
    if target.calibrates:
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
    graph = weights
    if precision == "int8":
        graph = weights.with_name("symmetric.onnx")
        save_model(quantize(load_model(weights), spec, photos, symmetric=True)[0], graph)
    return build_plan(graph, spec, weights.parent, precision)


def _labelled_change(source: Source, weights: Path, data: str | None) -> "LabelledChange | None":
    if data is None:
        return None
    from export.labelled import labelled_change

    graph = session_runner(open_as_computed(weights), source.spec)
    return labelled_change(data, source.spec, source.reference, graph)


def _check(target: Target, evidence: Evidence) -> None:
    """Refuses what can be refused before anything slow."""
    _check_name(target.name)
    if target.calibrates and evidence.calibrate is None:
        enough(None)
    if target.plan:
        find_builder()


def _check_labels(spec: TrainedSpec, file: Path) -> None:
    if fault := case_fault(spec.labels):
        raise LabelwiseError(f"Not published: {fault}. Rename one of them in {file}, at the same place in the list.")


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise LabelwiseError(f"{name!r} cannot name a model: use letters, digits, - and _, at most 64, no path.")
    if tagger_of(name) != name:
        raise LabelwiseError(f"{name!r} cannot name a model: names ending in _decode and _model are taken.")
