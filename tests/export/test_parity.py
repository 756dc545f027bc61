"""The check before publishing: the true graph passes, and each kind of wrong one is told apart."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.parity import TOLERANCE, ParityError, check_parity
from labelwise.spec import TaggerSpec
from training.model import Tagger


def test_the_true_graph_passes_at_one_two_and_the_largest_batch(graph: Path, tagger: Tagger, spec: TaggerSpec):
    differences = check_parity(tagger, spec, graph)
    assert [(difference.batch, difference.output) for difference in differences] == [
        (batch, name) for batch in (1, 2, 5) for name in ("scores", "embeddings", "attention")
    ]
    assert all(0 <= difference.value <= TOLERANCE[difference.output] / 10 for difference in differences)
    assert any(difference.value > 0 for difference in differences)  # two implementations, not one compared with itself
    alone = check_parity(tagger, spec.model_copy(update={"max_batch": 1}), graph)
    assert {difference.batch for difference in alone} == {1}


def change_weights(to: Callable[[np.ndarray], np.ndarray]) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        # The last layer's bias: one number a label, of which the scores are made.
        (bias,) = (part for part in model.graph.initializer if part.name.endswith("bias") and list(part.dims) == [3])
        bias.CopyFrom(onnx.numpy_helper.from_array(to(onnx.numpy_helper.to_array(bias)), bias.name))

    return change


def fix_batch(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 5


def rename_output(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.output[:] = ["logits" if name == "scores" else name for name in node.output]
        node.input[:] = ["logits" if name == "scores" else name for name in node.input]
    model.graph.output[0].name = "logits"


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (
            change_weights(lambda bias: bias + np.float32([0, 0, 0.01])),
            "scores at batch 1 differs from the checkpoint by",
        ),
        (change_weights(lambda bias: bias * np.float32("nan")), "scores at batch 1 differs from the checkpoint by nan"),
        (fix_batch, "batch dimension is fixed"),
        (rename_output, "its contract says"),
    ],
)
def test_a_tampered_graph_is_refused(
    tamper: Callable[[onnx.ModelProto], None], words: str, graph: Path, tagger: Tagger, spec: TaggerSpec, tmp_path: Path
):
    model = onnx.load(graph)
    tamper(model)
    onnx.save_model(model, tmp_path / "model.onnx")
    with pytest.raises(ParityError, match=f"Not published: .*{words}"):
        check_parity(tagger, spec, tmp_path / "model.onnx")


def test_what_is_no_graph_is_refused(tagger: Tagger, spec: TaggerSpec, tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ParityError, match="ONNX Runtime cannot load"):
        check_parity(tagger, spec, tmp_path / "model.onnx")
