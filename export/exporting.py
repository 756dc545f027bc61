"""`labelwise export`: run or foreign ONNX file -> graph -> parity -> repository. A failure publishes nothing."""

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from export.foreign import open_foreign
from export.half_arithmetic import open_as_computed
from export.onnx_file import session_runner
from export.parity import Difference, check_parity
from export.pictures import NO_EVIDENCE, Evidence, Pictures, pictures_for
from export.precision import convert, convert_for_tensorrt
from export.precision.int8 import MOST_PHOTOS, Quantization, enough
from export.publish import check_compatible, next_version, publish, staging
from export.source import Source
from export.tensorrt import Plan, build_plan, find_builder
from export.tolerances import EXACTEST_FIRST, coarser
from export.triton_config import Backend, ServingOptions
from labelwise.errors import LabelwiseError
from labelwise.files import sha256_of
from labelwise.label_names import case_fault
from labelwise.repository import WEIGHTS_FILE, tagger_of
from labelwise.spec import NAME_PATTERN, SPEC_FILE, GraphSpec, Precision, TaggerSpec
from labelwise.validation import first_refusal, split_assignment

if TYPE_CHECKING:
    from export.labelled import LabelledChange


@dataclass(frozen=True)
class Target:
    """Where and how to publish.

    `version` None is the next one; `precisions` are those of its graphs, the most exact first; `keep` is the number of
    versions to keep, None for all; `plan` is the precision of a TensorRT plan to build, None for no plan.
    """

    repository: Path
    name: str
    version: int | None = None
    precisions: tuple[Precision, ...] = ("fp32",)
    backend: Backend = "onnxruntime"
    options: ServingOptions = field(default_factory=ServingOptions)
    keep: int | None = None
    plan: Precision | None = None


@dataclass(frozen=True)
class ExportedGraph:
    """One graph of what was published, and how far it is from its source."""

    spec: GraphSpec
    differences: list[Difference]
    quantization: Quantization | None
    change: "LabelledChange | None"


@dataclass(frozen=True)
class Export:
    """What was published: the contract, and its graphs, the most exact first."""

    spec: TaggerSpec
    graphs: list[ExportedGraph]


def make_options(settings: list[str]) -> ServingOptions:
    """Makes ServingOptions from `key=value` texts. Raises LabelwiseError, which names the wrong one."""
    try:
        return TypeAdapter(ServingOptions).validate_python(dict(map(split_assignment, settings)))
    except ValidationError as error:
        raise LabelwiseError(f"The setting {first_refusal(error)}.") from error


def parse_precisions(text: str) -> tuple[Precision, ...]:
    """Reads names separated by commas, the most exact first. Raises LabelwiseError for an unknown one."""
    names = {name.strip() for name in text.split(",")}
    if unknown := sorted(names.difference(EXACTEST_FIRST)):
        raise LabelwiseError(f"There is no precision {unknown[0]!r}: choose among {', '.join(EXACTEST_FIRST)}.")
    return tuple(precision for precision in EXACTEST_FIRST if precision in names)


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
    if source.precision != "fp32" and len(target.precisions) > 1:
        raise LabelwiseError(f"{source.called} is in {source.precision} already: choose one --precision.")
    pictures = pictures_for(spec, evidence.images or evidence.calibrate)
    photos = pictures_for(spec, evidence.calibrate, MOST_PHOTOS) if evidence.calibrate else None
    if "int8" in (*target.precisions, target.plan):
        enough(photos)
    with staging(target.repository) as stage:
        number = target.version or next_version(target.repository, target.name)
        check_compatible(target.repository, target.name, number, spec)
        exact = stage / "source.onnx"
        source.write(target.name, number, exact)
        differences = check_parity(source.reference, source.called, spec, exact, pictures, source.precision)
        plans = [_build_plan(source, exact, target.plan, pictures, photos)] if target.plan else []
        graphs = []
        for precision in target.precisions:
            file = stage / (f"model.{precision}.onnx" if graphs else WEIGHTS_FILE)
            shutil.copyfile(exact, file)
            quantization = convert(file, spec, precision, photos)
            if precision != "fp32":
                limits = coarser(source.precision, precision)
                differences = check_parity(source.reference, source.called, spec, file, pictures, limits, True)
            change = _labelled_change(source, file, evidence.data)
            graphs.append(_exported(file, coarser(source.precision, precision), differences, quantization, change))
        published = spec.published(target.name, number, [graph.spec for graph in graphs])
        publish(target.repository, stage, published, target.backend, target.options, plans, target.keep)
    return Export(published, graphs)


def _exported(
    file: Path,
    precision: Precision,
    differences: list[Difference],
    quantization: Quantization | None,
    change: "LabelledChange | None",
) -> ExportedGraph:
    outputs = {one.output: max(each.value for each in differences if each.output == one.output) for one in differences}
    spec = GraphSpec(
        precision=precision,
        file=file.name,
        sha256=sha256_of(file),
        differences={output: float(f"{value:.2g}") for output, value in outputs.items()},
        map_change=change.map_change if change else None,
        labelled_photos=change.photos if change else 0,
    )
    return ExportedGraph(spec, differences, quantization, change)


def _build_plan(source: Source, exact: Path, precision: Precision, pictures: Pictures, photos: Pictures | None) -> Plan:
    """The plan's own graph is compared with the source, because the plan itself is not."""
    graph = exact.with_name("plan.onnx")
    convert_for_tensorrt(exact, graph, source.spec, precision, photos)
    limits = coarser(source.precision, precision)
    check_parity(source.reference, source.called, source.spec, graph, pictures, limits, as_computed=True)
    return build_plan(graph, source.spec, exact.parent)


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
