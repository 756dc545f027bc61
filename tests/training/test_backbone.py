"""Backbones from a file: timm's names, torchvision's, and what is said of files that do not fit."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from labelwise.errors import LabelwiseError
from training.backbone import make_backbone
from training.config import ModelConfig


def test_timm_weights_from_safetensors(tmp_path: Path):
    state = timm.create_model("test_resnet", num_classes=7).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    config = ModelConfig(backbone="test_resnet", feature_level=2, weights=tmp_path / "weights.safetensors")
    loaded = make_backbone(config).state_dict()
    assert len(loaded) > 20
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())


def test_torchvision_weights_from_pth(tmp_path: Path):
    state = torchvision.models.resnet18().state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    loaded = make_backbone(
        ModelConfig(backbone="resnet18", feature_level=4, weights=tmp_path / "resnet18.pth")
    ).state_dict()
    assert len(loaded) > 100
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())


@pytest.mark.parametrize("name", ["absent.pth", "junk.pth", "junk.safetensors", "other.pth"])
def test_a_file_that_does_not_fit_is_named(name: str, tmp_path: Path):
    torch.save(timm.create_model("test_convnext").state_dict(), tmp_path / "other.pth")
    for junk in ("junk.pth", "junk.safetensors"):
        (tmp_path / junk).write_bytes(b"no weights")
    with pytest.raises(LabelwiseError) as caught:
        make_backbone(ModelConfig(backbone="test_resnet", feature_level=2, weights=tmp_path / name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
