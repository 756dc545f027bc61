"""Asks a published graph for what taught labels are fitted to."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from export.onnx_file import Pixels, load_structure, open_session
from labelwise.cores import usable_cores
from labelwise.spec import TaggerSpec
from teaching.given_photos import See
from teaching.label_rows import Lessons, Values
from teaching.last_lesson import LastLesson, read_last_lessons
from teaching.taught_graph import add_features, head_tensors, read_lessons

_BATCH = 8


@dataclass(frozen=True)
class FeatureGraph:
    """`see` gives features [n, d] and the trained head's logits [n, l] of n photos.

    `lessons` is what was taught, and `last` the last lesson of each label.

    `identity` is a hash of all that `see` depends on. A taught version has that of the version that it was taught to; a
    tagger that was trained again has another.
    """

    identity: str
    see: See
    lessons: Lessons
    last: dict[str, LastLesson]


def open_features(file: Path, spec: TaggerSpec, threads: int | None = None) -> FeatureGraph:
    """Opens the graph `file` of `spec`, to run with `threads`, by default one per core. Raises LabelwiseError."""
    model = load_structure(file)
    lessons, last = read_lessons(model, spec.labels), read_last_lessons(model)
    names = [add_features(model), head_tensors(model).logits]
    identity = hashlib.sha256(spec.image.model_dump_json().encode() + _digest(model.graph, names)).hexdigest()
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = open_session(model.SerializeToString(), threads or usable_cores())
    size = min(_BATCH, spec.max_batch)

    def see(pixels: Pixels) -> tuple[Values, ...]:
        batches = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        found = [session.run(names, {spec.input.name: batch}) for batch in batches]
        return tuple(np.concatenate(parts).astype(np.float32) for parts in zip(*found, strict=True))

    return FeatureGraph(identity, see, lessons, last)


def _digest(graph: onnx.GraphProto, names: list[str]) -> bytes:
    """A hash of the nodes and weights that compute the tensors `names`, in whatever order the graph lists them."""
    makers = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    digest, waiting, done = hashlib.sha256(), [*names], set[str]()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        if part := makers.get(name) or weights.get(name):
            digest.update(part.SerializeToString(deterministic=True))
        if node := makers.get(name):
            waiting += node.input
    return digest.digest()
