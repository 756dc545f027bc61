"""Finds the outputs of a graph from elsewhere that can be served, by running it: declared shapes are often vague."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from export.foreign.partial_spec import ForeignSpec
from export.foreign.signature import InputForm
from export.onnx_file import GraphError, Outputs, Pixels, Runner, one_line
from export.pictures import drawn_pictures
from labelwise.errors import SpecError
from labelwise.spec import ImageSpec

_TRIAL = 4  # pictures
_ENDS_AS_SCORES = {"Sigmoid", "HardSigmoid", "Softmax"}
_ENDS_AS_NEITHER = {"LogSoftmax", "Log", "Tanh", "Softsign", "Softplus"}  # the spec hardly ever means their sigmoid
_REARRANGES = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_MISFIT = "The spec does not fit the graph: "


@dataclass(frozen=True)
class OutputForm:
    """An output of the graph: its name there, its shape without the batch, and whether a sigmoid is missing."""

    name: str
    shape: tuple[int, ...]
    logits: bool = False


def read_outputs(
    model: onnx.ModelProto, session: ort.InferenceSession, form: InputForm, spec: ForeignSpec
) -> dict[str, OutputForm]:
    """Served name -> the graph's output: scores, and embeddings and attention if the graph has outputs of these names.

    Raises SpecError if labels or logits do not fit, and GraphError if the graph does not run.
    """
    pictures = drawn_pictures(spec.image, _TRIAL).pixels
    found = run_original(session, form, spec.image, pictures)
    found = {name: values for name, values in found.items() if values.dtype.kind in "fiub"}  # texts cannot be served
    if broken := [name for name, values in found.items() if not np.isfinite(values).all()]:
        raise GraphError(f"The graph's {', '.join(broken)} is not finite on the test pictures.")
    labels = len(spec.labels)
    scores = _choose_scores(found, spec)
    forms = {"scores": OutputForm(scores, (labels,), _lacks_sigmoid(model, scores, found[scores], spec))}
    for name, rank in (("embeddings", 3), ("attention", 4)):
        shape = found[name].shape if name in found else ()
        if len(shape) == rank and shape[1] == labels:
            forms[name] = OutputForm(name, shape[1:])
    return forms


def run_original(session: ort.InferenceSession, form: InputForm, image: ImageSpec, pixels: Pixels) -> Outputs:
    """Every output of the original graph, with normalisation by NumPy; in batches of its own size if that is fixed."""
    size = form.batch or len(pixels)
    rows = np.arange(-(-len(pixels) // size) * size) % len(pixels)  # the last batch is filled up from the start
    fed = form.feed(pixels[rows], image)
    names = [output.name for output in session.get_outputs()]
    try:
        parts = [session.run(names, {form.name: fed[start : start + size]}) for start in range(0, len(fed), size)]
        return {name: np.concatenate(part)[: len(pixels)] for name, *part in zip(names, *parts, strict=True)}
    except Exception as error:  # onnxruntime raises classes of its own; NumPy raises ValueError for scalars
        raise GraphError(f"The graph does not run on pictures of that size: {one_line(error)}.") from error


def original_runner(
    session: ort.InferenceSession, form: InputForm, outputs: dict[str, OutputForm], image: ImageSpec
) -> Runner:
    """The original graph, completed by NumPy, to compare the adapted graph with."""

    def run(pixels: Pixels) -> Outputs:
        found = run_original(session, form, image, pixels)
        return {name: _served(found[output.name], output.logits) for name, output in outputs.items()}

    return run


def _served(values: NDArray, logits: bool) -> NDArray[np.float32]:
    values = values.astype(np.float32)
    if not logits:
        return values
    with np.errstate(over="ignore"):  # overflows to infinity, so the score is 0
        return 1 / (1 + np.exp(-values))


def _choose_scores(found: Outputs, spec: ForeignSpec) -> str:
    labels = len(spec.labels)
    described = ", ".join(f"{name} {['b', *values.shape[1:]]}" for name, values in found.items())
    if spec.scores is not None and spec.scores not in found:
        raise SpecError(f"{_MISFIT}scores: it says {spec.scores!r}, the graph gives {described}.")
    names = [spec.scores] if spec.scores is not None else list(found)
    fitting = [name for name in names if found[name].shape[1:] == (labels,)]
    if not fitting:
        raise SpecError(f"{_MISFIT}labels: it has {labels}, the graph gives {described}.")
    if len(fitting) > 1 and "scores" not in fitting:
        raise SpecError(f"{_MISFIT}scores: {' and '.join(fitting)} could be the scores; name one of them.")
    return "scores" if "scores" in fitting else fitting[0]


def _lacks_sigmoid(model: onnx.ModelProto, name: str, values: NDArray, spec: ForeignSpec) -> bool:
    (value,) = (value for value in ir.from_proto(model).graph.outputs if value.name == name)
    last = last_node(value, _REARRANGES)
    end = last.op_type if last is not None else "nothing"
    inside = bool(values.min() >= 0 and values.max() <= 1)
    span = f"{name} reaches from {values.min():.3g} to {values.max():.3g} on test pictures"
    if spec.logits and end in _ENDS_AS_SCORES:
        raise SpecError(f"{_MISFIT}logits: it says true, but {name} comes from a {end}.")
    if spec.logits is False and not inside:
        raise SpecError(f"{_MISFIT}logits: it says false, but {span}.")
    if spec.logits is not None or end in _ENDS_AS_SCORES:
        return bool(spec.logits)
    if inside or end in _ENDS_AS_NEITHER:
        raise SpecError(f"{_MISFIT}logits: {span}, and comes from {end}, not from a sigmoid; say true or false.")
    return True


def last_node(value: ir.Value, through: Collection[str]) -> ir.Node | None:
    """The node that computes `value`, looking through nodes whose operator is one of `through`."""
    node = value.producer()
    while node is not None and node.op_type in through:
        node = node.inputs[0].producer()
    return node
