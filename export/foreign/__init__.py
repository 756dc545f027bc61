"""Makes an ONNX multi-label classifier from elsewhere servable. Needs no torch."""

from pathlib import Path

import onnx
import onnx.inliner
from pydantic import ValidationError

from export.foreign.outputs import OutputForm, original_runner, read_outputs
from export.foreign.partial_spec import ForeignSpec, read_foreign_spec
from export.foreign.signature import read_input
from export.foreign.surgery import adapt
from export.metadata import describe
from export.onnx_file import (
    OPSET,
    GraphError,
    load_model,
    open_session,
    save_model,
    session_runner,
)
from export.pictures import drawn_pictures
from export.source import Source
from export.tolerances import precision_of
from labelwise.errors import SpecError
from labelwise.files import sha256_of
from labelwise.spec import DataSpec, TensorSpec, TrainedSpec, invalid_spec

_NOT_LABELWISE = DataSpec(fingerprint="unknown", train_images=0, val_images=0, train_counts={})


def open_foreign(file: Path, spec_file: Path) -> Source:
    """Opens the graph in `file`; `spec_file`, a tagger.json that may be partial, says what the graph cannot.

    Raises GraphError if the graph cannot be served, and SpecError if the two disagree.
    """
    foreign, complete = read_foreign_spec(spec_file)
    model = onnx.inliner.inline_local_functions(load_model(file))
    session = open_session(model.SerializeToString())
    form = read_input(model, foreign.image)
    outputs = read_outputs(model, session, form, foreign)
    spec = _contract(foreign, outputs, sha256_of(file), str(spec_file))
    if complete is not None and {*complete.outputs} - {*spec.outputs}:
        wanted, found = (", ".join(f"{out.name} {list(out.shape)}" for out in s.outputs) for s in (complete, spec))
        raise SpecError(f"{spec_file} does not fit the graph: outputs: it says {wanted}, the graph gives {found}.")

    def write(name: str, version: int, target: Path) -> None:
        adapted = adapt(model, form, outputs, spec)
        describe(adapted, spec, name, version, {})
        if form.batch is None:
            save_model(adapted, target)
        else:
            _save_freed(adapted, form.batch, spec, target)

    reference = original_runner(session, form, outputs, foreign.image)
    return Source(spec, write, reference, file.name, precision_of(model))


def _contract(foreign: ForeignSpec, outputs: dict[str, OutputForm], sha256: str, source: str) -> TrainedSpec:
    image, grid = foreign.image, outputs["attention"].shape[1:] if "attention" in outputs else None
    try:
        return TrainedSpec(
            labels=foreign.labels,
            thresholds=foreign.label_thresholds,
            image=image,
            input=TensorSpec(name="image", dtype="uint8", shape=(image.height, image.width, 3)),
            outputs=tuple(
                TensorSpec(name=name, dtype="float32", shape=output.shape) for name, output in outputs.items()
            ),
            embedding_dim=outputs["embeddings"].shape[-1] if "embeddings" in outputs else None,
            attention_grid=(grid[0], grid[1]) if grid else None,
            max_batch=foreign.max_batch,
            backbone=foreign.backbone,
            metrics=foreign.metrics,
            data=foreign.data or _NOT_LABELWISE,
            training=foreign.training,
            producer="unknown",
            weights_sha256=sha256,
        )
    except ValidationError as error:
        raise invalid_spec(source, error) from error


def _save_freed(model: onnx.ModelProto, batch: int, spec: TrainedSpec, file: Path) -> None:
    """Saves a graph whose batch was fixed. Raises GraphError if it is still fixed; the numbers are compared later."""
    pictures = drawn_pictures(spec.image, 3).pixels
    try:
        save_model(model, file)
        run = session_runner(open_session(file), spec)
        is_free = all(len(run(pictures[:size])["scores"]) == size for size in (1, 2, 3))
    except GraphError:
        is_free = False
    if not is_free:
        raise GraphError(
            f"The graph's batch is fixed at {batch} in more than its input: export it again with a dynamic batch "
            f"(torch.onnx.export(…, dynamo=True, opset_version={OPSET}, dynamic_shapes=…))."
        )
