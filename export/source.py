"""What can be exported: a trained checkpoint (checkpoint_graph.py), or a graph from elsewhere (foreign/)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export.onnx_file import Runner
from export.tolerances import Precision
from labelwise.spec import TrainedSpec


@dataclass(frozen=True)
class Source:
    """A tagger before its export.

    `write` writes its graph under a name and a version into a file. `reference` computes the same outputs by other
    means, for the comparison; errors call it `called`. `precision` is the one that its graph comes in.
    """

    spec: TrainedSpec
    write: Callable[[str, int, Path], None]
    reference: Runner
    called: str
    precision: Precision = "fp32"
