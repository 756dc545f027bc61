"""`labelwise check`: can this repository be served, and does it answer as it should? Needs torch only for a run."""

from collections.abc import Iterator
from pathlib import Path

import onnx

from export.check.behaviour import check_against, check_half, check_outputs
from export.check.configs import check_configs
from export.check.contract import Version, check_copies, check_files, read_versions
from export.check.findings import Finding, verdict
from export.check.graph_file import check_graph
from export.half_arithmetic import open_as_computed
from export.metadata import facts_of
from export.onnx_file import GraphError, Runner, load_structure, open_session, session_runner, signature_faults
from export.pictures import NO_EVIDENCE, Evidence, pictures_for
from export.source import Source
from export.tolerances import precision_of
from labelwise.errors import DataError, RepositoryError
from labelwise.repository import tagger_names


def check_repository(repository: Path, evidence: Evidence = NO_EVIDENCE, run: Path | None = None) -> list[Finding]:
    """Checks every tagger, version, configuration and graph; with `run` also against that checkpoint.

    A fault in the repository is a finding, and the check continues. Raises LabelwiseError if the repository, the photos
    or the run cannot be read. `run` and `evidence.data` need the `train` extra.
    """
    if not repository.is_dir():
        raise RepositoryError(f"There is no model repository at {repository}: name the folder that holds the models.")
    try:
        return _check(repository, evidence, run)
    except OSError as error:
        raise RepositoryError(f"{error.filename or repository} cannot be read: {error.strerror}.") from error


def _check(repository: Path, evidence: Evidence, run: Path | None) -> list[Finding]:
    names = tagger_names(repository)
    if not names:
        raise RepositoryError(f"{repository} holds no tagger: no folder in it has a tagger.json.")
    findings: list[Finding] = []
    versions: list[Version] = []
    for name in names:
        readable, found = read_versions(repository, name)
        findings += [*found, *(check_copies(repository, version) for version in readable[-1:])]
        versions += readable
    findings += check_configs(repository, {version.name: version.spec for version in versions})  # the newest of each
    origin = None
    if run:
        from export.checkpoint_graph import open_run  # it loads torch

        origin = open_run(run)
    compared = _descendants(origin, versions) if origin else []
    if origin and not compared:
        findings.append(
            verdict("repository", "parity with the run", "", [f"nothing here has the labels and image of {run}"])
        )
    for version in versions:
        findings += check_files(repository, version)
        for graph in version.each_graph:
            findings += _check_graph(graph, evidence, origin if version in compared else None)
    return findings


def _descendants(origin: Source, versions: list[Version]) -> list[Version]:
    """The versions whose metadata name this checkpoint; if none does, the newest ones with its labels and image."""
    same = [version for version in versions if _source_of(version) == origin.spec.weights_sha256]
    newest = {version.name: version for version in versions}
    wanted = (origin.spec.labels, origin.spec.image)
    return same or [version for version in newest.values() if (version.spec.labels, version.spec.image) == wanted]


def _source_of(version: Version) -> object:
    try:
        return facts_of(load_structure(version.weights)).get("source_sha256")
    except GraphError:
        return None


def _check_graph(version: Version, evidence: Evidence, origin: Source | None) -> Iterator[Finding]:
    if not version.weights.is_file():
        return  # which check_files reports
    try:
        model = load_structure(version.weights)
    except GraphError as error:
        yield verdict(version.subject, "ONNX", "", [str(error)])
        return
    runner, faults = None, []
    try:
        runner = session_runner(open_session(version.weights), version.spec)
    except GraphError as error:
        faults = [str(error)]
    yield from check_graph(version, model, faults)
    if runner and not signature_faults(model, version.spec):  # other tensors than the contract's are not worth running
        yield from _check_answers(version, model, runner, evidence, origin)


def _check_answers(
    version: Version, model: onnx.ModelProto, runner: Runner, evidence: Evidence, origin: Source | None
) -> Iterator[Finding]:
    spec, precision = version.spec, precision_of(model)
    pictures = pictures_for(spec, evidence.images)
    yield from check_outputs(version.subject, spec, runner, pictures, precision)
    if precision == "fp16":
        computed = session_runner(open_as_computed(version.weights), spec)
        yield check_half(version.subject, runner, computed, spec, pictures)
        runner = computed
    if origin is not None:
        yield check_against(version.subject, "parity with the run", origin.reference, runner, spec, pictures, precision)
    if evidence.data is not None:
        yield _check_labelled(version, evidence.data, runner, origin)


def _check_labelled(version: Version, data: str, runner: Runner, origin: Source | None) -> Finding:
    from export.labelled import labelled_change, labelled_map

    spec = version.spec
    try:
        if origin is not None:
            return verdict(version.subject, "labelled", str(labelled_change(data, spec, origin.reference, runner)), [])
        value, photos = labelled_map(data, spec, runner)
    except (DataError, GraphError) as error:
        return verdict(version.subject, "labelled", "", [str(error)])
    trained = f"; {spec.metrics['mAP']:.4f} when trained" if "mAP" in spec.metrics else ""
    return verdict(version.subject, "labelled", f"mAP {value:.4f} on {photos} labelled photos{trained}", [])
