"""The head in graphs of all precisions."""

from pathlib import Path

import numpy as np
import pytest

from export.onnx_file import load_model, load_structure, open_session, save_model
from export.precision.half import to_half
from labelwise.errors import LabelwiseError
from labelwise.spec import TaggerSpec
from teaching.feature_graph import open_features
from teaching.label_rows import LabelRow
from teaching.taught_graph import base_labels, head_tensors, read_lessons, write_lessons
from tests.conftest import ROOT

BUNDLED = ROOT / "model_repository"
SPEC = TaggerSpec.read(BUNDLED / "everyday")


def test_half_precision_is_taught_too(tmp_path: Path):
    """There the head computes in half floats, and the taught label in fp32."""
    model = to_half(load_model(BUNDLED / "everyday_model/1/model.onnx"))
    save_model(model, tmp_path / "before.onnx")
    row = LabelRow(np.random.default_rng(0).normal(size=3280).astype(np.float32), -1.0)
    copy_of_dog = LabelRow(np.zeros(3280, np.float32), 0.0, SPEC.labels.index("dog"), 1.0)
    lessons = read_lessons(model, SPEC.labels).taught(2, {"new": row, "dog too": copy_of_dog}, base_labels(model))
    write_lessons(model, lessons)
    save_model(model, tmp_path / "taught.onnx")
    pixels = {"image": np.random.default_rng(1).integers(0, 255, (1, 384, 384, 3), np.uint8)}
    names = ["scores", "embeddings", "attention"]
    before, after = (open_session(tmp_path / f"{name}.onnx").run(names, pixels) for name in ("before", "taught"))
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(new[:, :-2], old)
        assert new[:, -1] == pytest.approx(old[:, SPEC.labels.index("dog")], abs=2e-3)
    # What was computed by the version before serves the taught one, and no other graph.
    taught = SPEC.model_copy(update={"labels": (*SPEC.labels, "new", "dog too")})
    graph = open_features(tmp_path / "before.onnx", SPEC)
    assert graph.identity == open_features(tmp_path / "taught.onnx", taught).identity
    assert graph.identity != open_features(BUNDLED / "everyday_model/1/model.onnx", SPEC).identity
    features, trained = graph.see(pixels["image"])
    logits = [lessons.row(label).logits(features, trained) for label in ("new", "dog too")]
    assert 1 / (1 + np.exp(-np.stack(logits, axis=1))) == pytest.approx(after[0][:, -2:], abs=2e-3)
    again = read_lessons(load_structure(tmp_path / "taught.onnx"), taught.labels)
    assert np.array_equal(again.row("new").weight, row.weight)
    assert again.row("dog too")[1:] == copy_of_dog[1:]


def test_another_head_is_refused():
    with pytest.raises(LabelwiseError, match="cannot be taught: it has no Mul"):
        head_tensors(load_structure(BUNDLED / "scenes_model/1/model.onnx"))
