"""`labelwise export`: checkpoint -> ONNX -> parity -> repository; a failure on the way publishes nothing."""

import re
from dataclasses import dataclass
from pathlib import Path

from export.graph import write_onnx
from export.parity import Difference, check_parity
from export.publish import check_compatible, next_version, publish, staging
from export.triton_config import Backend
from labelwise import __version__
from labelwise.errors import LabelwiseError
from labelwise.repository import DECODE_SUFFIX, MODEL_SUFFIX, WEIGHTS_FILE
from labelwise.spec import NAME_PATTERN, TaggerSpec, sha256_of
from training.checkpoint import load_checkpoint


@dataclass(frozen=True)
class Export:
    """What was published, and how far it is from the checkpoint."""

    spec: TaggerSpec
    differences: list[Difference]


def export_run(run: Path, to: Path, name: str, version: int | None = None, backend: Backend = "onnxruntime") -> Export:
    """Export the checkpoint in `run` into the repository `to` under `name`; by default as the next version.

    Raises LabelwiseError: not a checkpoint, a wrong name, a repository that cannot be written, or a failed check.
    """
    _check_name(name)
    tagger, trained = load_checkpoint(run)
    with staging(to) as stage:
        number = version or next_version(to, name)
        spec = trained.model_copy(update={"name": name, "version": number, "producer": f"labelwise {__version__}"})
        check_compatible(to, spec)
        weights = stage / WEIGHTS_FILE
        write_onnx(tagger, spec, weights)
        differences = check_parity(tagger, spec, weights)
        spec = spec.model_copy(update={"weights_sha256": sha256_of(weights)})
        publish(to, stage, weights, spec, backend)
    return Export(spec, differences)


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise LabelwiseError(f"{name!r} cannot name a model: use letters, digits, - and _, at most 64, no path.")
    if name.endswith((DECODE_SUFFIX, MODEL_SUFFIX)):
        raise LabelwiseError(
            f"{name!r} cannot name a model: names ending in {DECODE_SUFFIX} and {MODEL_SUFFIX} are taken."
        )
