"""A timm classifier as others export it: floats [b, 3, h, w] normalised by the caller, logits out."""

import json
import warnings
from pathlib import Path

import pytest
import timm
import torch

LABELS = ("cat", "dog", "sea", "tree")


@pytest.fixture(scope="session")
def classifier() -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=len(LABELS)).eval()
    with torch.no_grad():
        model.get_classifier().weight.mul_(20)  # an untrained one is undecided: its scores would all be 0.5
    return model


@pytest.fixture(scope="session")
def timm_onnx(classifier: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("timm") / "classifier.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx deprecates its own internals
        torch.onnx.export(
            classifier,
            (torch.zeros(2, 3, 32, 48),),
            file,
            dynamo=True,
            opset_version=18,
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("n", min=1, max=64)},),
            external_data=False,
            verbose=False,
        )
    return file


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    """Only what the graph cannot say."""
    file = tmp_path / "spec.json"
    file.write_text(json.dumps({"labels": LABELS, "image": {"height": 32, "width": 48}}), "utf-8")
    return file
