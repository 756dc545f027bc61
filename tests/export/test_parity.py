"""The check before publishing: the true graph passes, and each kind of wrong one is told apart."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.checkpoint_graph import checkpoint_runner
from export.parity import Difference, ParityError, batch_sizes, check_parity
from export.pictures import Pictures, drawn_pictures
from export.tolerances import TOLERANCES, Precision
from labelwise.spec import TaggerSpec
from training.model import TaggerNetwork


def differences(tagger: TaggerNetwork, spec: TaggerSpec, file: Path, precision: Precision = "fp32") -> list[Difference]:
    pictures = drawn_pictures(spec.image, 6)
    return check_parity(checkpoint_runner(tagger, spec), "the checkpoint", spec, file, pictures, precision)


def test_the_true_graph_passes_at_every_kind_of_batch(graph: Path, tagger: TaggerNetwork, spec: TaggerSpec):
    found = differences(tagger, spec, graph)
    assert [(difference.batch, difference.output) for difference in found] == [
        (batch, name) for batch in (1, 2, 5) for name in ("scores", "embeddings", "attention")
    ]
    assert all(0 <= difference.value <= difference.tolerance.limit / 10 for difference in found)
    assert any(difference.value > 0 for difference in found)  # two implementations, not one compared with itself
    alone = differences(tagger, spec.model_copy(update={"max_batch": 1}), graph)
    assert {difference.batch for difference in alone} == {1}


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 3, 4]), (32, [1, 2, 7, 32])]
)
def test_batches_are_one_two_odd_and_the_largest(largest: int, sizes: list[int]):
    assert batch_sizes(largest) == sizes


def change_weights(to: Callable[[np.ndarray], np.ndarray]) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        # The last layer's bias: one number per label, which shifts the scores.
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
            "differs from the checkpoint: scores at batch 1 by 0.00.*, more than 0.0001, on test picture 1",
        ),
        (
            change_weights(lambda bias: bias * np.float32("nan")),
            "differs from the checkpoint: scores at batch 1 by nan",
        ),
        (fix_batch, "the batch dimension of image is fixed at 5"),
        (rename_output, "its contract says 'scores', but the graph has logits"),
    ],
)
def test_a_tampered_graph_is_refused(
    tamper: Callable[[onnx.ModelProto], None],
    words: str,
    graph: Path,
    tagger: TaggerNetwork,
    spec: TaggerSpec,
    tmp_path: Path,
):
    model = onnx.load(graph)
    tamper(model)
    onnx.save_model(model, tmp_path / "model.onnx")
    with pytest.raises(ParityError, match=f"Not published: .*{words}"):
        differences(tagger, spec, tmp_path / "model.onnx")


def test_a_lower_precision_has_its_own_tolerance(graph: Path, tagger: TaggerNetwork, spec: TaggerSpec, tmp_path: Path):
    model = onnx.load(graph)
    change_weights(lambda bias: bias + np.float32(0.01))(model)
    onnx.save_model(model, tmp_path / "model.onnx")
    found = differences(tagger, spec, tmp_path / "model.onnx", "fp16")
    assert max(found, key=lambda difference: difference.value).output == "scores"
    assert {difference.tolerance for difference in found} == {*TOLERANCES["fp16"].values()}
    with pytest.raises(ParityError):
        differences(tagger, spec, tmp_path / "model.onnx")


def test_the_error_names_the_worst_picture(graph: Path, tagger: TaggerNetwork, spec: TaggerSpec):
    pixels = drawn_pictures(spec.image, 6).pixels
    run = checkpoint_runner(tagger, spec)

    def wrong_on_the_fourth(batch: np.ndarray) -> dict[str, np.ndarray]:
        outputs = run(batch)
        fourth = (batch == pixels[3]).all(axis=(1, 2, 3))
        return outputs | {"attention": outputs["attention"] + 0.01 * fourth[:, None, None, None].astype(np.float32)}

    pictures = Pictures(("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"), pixels)
    with pytest.raises(ParityError, match=r"attention at batch 5 by 0\.01, more than 0\.0001, on d\.jpg"):
        check_parity(wrong_on_the_fourth, "the checkpoint", spec, graph, pictures)


def test_a_file_that_is_not_onnx_is_refused(tagger: TaggerNetwork, spec: TaggerSpec, tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ParityError, match="is not an ONNX file"):
        differences(tagger, spec, tmp_path / "model.onnx")
