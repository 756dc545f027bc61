"""The run that a published version came from, to compare it with. Needs the `train` extra."""

from dataclasses import dataclass
from pathlib import Path

from export.check.contract import Version
from export.graph import checkpoint_runner
from export.metadata import facts_of
from export.onnx_file import GraphError, Runner, load_structure
from labelwise.spec import TrainedSpec
from training.checkpoint import load_checkpoint


@dataclass(frozen=True)
class Origin:
    """A checkpoint: its contract, and itself as a function of pixels."""

    spec: TrainedSpec
    runner: Runner


def open_origin(run: Path) -> Origin:
    """LabelwiseError if `run` holds no whole checkpoint."""
    tagger, spec = load_checkpoint(run)
    return Origin(spec, checkpoint_runner(tagger, spec))


def descendants(origin: Origin, versions: list[Version]) -> list[Version]:
    """The versions whose metadata name this checkpoint; if none does, the newest ones with its labels and pictures."""
    same = [version for version in versions if _source_of(version) == origin.spec.weights_sha256]
    newest = {version.name: version for version in versions}
    wanted = (origin.spec.labels, origin.spec.image)
    return same or [version for version in newest.values() if (version.spec.labels, version.spec.image) == wanted]


def _source_of(version: Version) -> object:
    try:
        return facts_of(load_structure(version.weights)).get("source_sha256")
    except GraphError:
        return None
