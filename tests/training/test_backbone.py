"""Backbones from a file: timm's names, torchvision's, and files that do not fit. Pretrained ones bring their own image:
size, interpolation, mean and std, which settings and a resumed run override."""

import json
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from labelwise.errors import LabelwiseError
from labelwise.spec import ImageSpec, TrainedSpec
from training.backbone import describe_input, make_backbone, own_image
from training.checkpoint import load_checkpoint, save_state, trained_image
from training.config import ModelConfig, TrainConfig
from training.config_layers import make_config
from training.training_run import RunOptions, train_run

HALF = (0.5, 0.5, 0.5)
IMAGENET = ImageSpec(height=128, width=128)
OWN = {"height": 160, "width": 160, "interpolation": "bilinear", "mean": HALF, "std": HALF}  # test_resnet's


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


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), file)
    return file


@pytest.mark.parametrize(
    ("backbone", "side", "interpolation", "mean"),
    [
        ("tf_efficientnet_lite0", 224, "bicubic", 0.5),
        ("vit_tiny_patch16_224", 224, "bicubic", 0.5),
        ("inception_v4", 299, "bicubic", 0.5),
        ("resnet18.tv_in1k", 224, "bilinear", 0.485),
        ("resnet18d", 224, "bicubic", 0.485),
        ("vit_base_patch16_clip_224.openai", 224, "bicubic", 0.48145466),
    ],
)
def test_timms_configuration_counts(backbone: str, side: int, interpolation: str, mean: float):
    image = make_config([f"model.backbone={backbone}", "model.pretrained=true"]).image
    assert (image.height, image.width, image.interpolation, image.mean[0]) == (side, side, interpolation, mean)
    assert make_config([f"model.backbone={backbone}"]).image == IMAGENET  # from scratch


def test_a_file_of_weights_counts_as_pretrained(weights: Path):
    config = make_config(["model.backbone=test_resnet", f"model.weights={weights}"])
    assert config.image == ImageSpec(**OWN)
    assert make_config(["model.backbone=test_resnet", "model.weights=null"]).image == IMAGENET


def test_settings_presets_and_files_lie_over_the_backbones_own(weights: Path, tmp_path: Path):
    start = ["model.backbone=test_resnet", f"model.weights={weights}"]
    assert make_config([*start, "image.mean=[0, 0, 0]"]).image == ImageSpec(**OWN | {"mean": (0, 0, 0)})
    assert make_config([*start, "image.height=96"]).image == ImageSpec(**OWN | {"height": 96})
    assert make_config(start, "tiny").image == ImageSpec(**OWN | {"height": 64, "width": 64})
    (tmp_path / "mine.yaml").write_text("image: {std: [1, 1, 1], interpolation: lanczos}\n")
    image = make_config(start, file=tmp_path / "mine.yaml").image
    assert (image.mean, image.std, image.interpolation) == (HALF, (1, 1, 1), "lanczos")


def test_the_presets_keep_their_size():
    paper = make_config([], "paper")
    assert paper.model.pretrained
    assert paper.image == ImageSpec(height=448, width=448)  # ResNet-101 has ImageNet's mean and std
    assert make_config([], "small").image == IMAGENET
    assert make_config([], "tiny").image == ImageSpec(height=64, width=64)


@pytest.mark.parametrize("is_old", [False, True])
def test_the_configuration_beside_a_file_comes_first(is_old: bool, tmp_path: Path):
    own = {"input_size": [3, 96, 128], "interpolation": "random", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    stated = own if is_old else {"pretrained_cfg": own}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_resnet", **stated}))
    found = own_image(ModelConfig(backbone="test_resnet.r160_in1k", weights=tmp_path / "model.safetensors"))
    assert found == {"height": 96, "width": 128, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    other = ModelConfig(backbone="resnet18.tv_in1k", weights=tmp_path / "model.safetensors")
    assert own_image(other)["mean"] == (0.485, 0.456, 0.406)
    for content in (
        "{",
        "[]",
        '{"architecture": "test_resnet"}',
        '{"architecture": "test_resnet", "pretrained_cfg": 1}',
    ):
        (tmp_path / "config.json").write_text(content)
        assert own_image(ModelConfig(backbone="test_resnet", weights=tmp_path / "model.safetensors")) == OWN


def test_a_folder_as_the_hub_keeps_it_counts(tmp_path: Path):
    own = {"input_size": [3, 96, 96], "interpolation": "bilinear", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    stated = {"architecture": "test_resnet", "num_classes": 10, "pretrained_cfg": own}
    (tmp_path / "config.json").write_text(json.dumps(stated))
    config = make_config([f"model.backbone=local-dir:{tmp_path}", "model.pretrained=true"])
    assert (config.image.height, config.image.mean) == (96, (0.1, 0.2, 0.3))


def test_a_backbone_that_timm_does_not_know_says_nothing():
    for name in ("no_such_net", "resnet18.no_such_tag", "local-dir:/no/such/folder"):
        assert own_image(ModelConfig(backbone=name, pretrained=True)) == {}


def test_a_run_that_goes_on_keeps_what_it_began_with(weights: Path, tmp_path: Path):
    """Also one that began before backbones brought their own."""
    start = ["model.backbone=test_resnet", f"model.weights={weights}"]
    before = make_config([*start, "image.mean=[0.485, 0.456, 0.406]", "image.height=128", "image.width=128"])
    assert trained_image(tmp_path) is None
    save_state(tmp_path, {"settings": before.model_dump(mode="json")})
    kept = trained_image(tmp_path)
    assert make_config(start, kept=kept) == before
    assert make_config([*start, "image.mean=[0, 0, 0]"], kept=kept).image.mean == (0, 0, 0)
    assert make_config([], kept=kept).image == IMAGENET  # from scratch, nothing is kept


def test_the_input_is_described(weights: Path):
    start = ["model.backbone=test_resnet", f"model.weights={weights}"]
    words = "bilinear; mean 0.5, 0.5, 0.5; std 0.5, 0.5, 0.5"
    assert (
        describe_input(make_config(start))
        == f"Input: 160x160 pixels; {words}, as the weights of test_resnet were trained."
    )
    assert describe_input(make_config([*start, "image.mean=[0,0,0]"])).endswith(
        "mean 0, 0, 0; std 0.5, 0.5, 0.5. The weights of test_resnet were trained with mean 0.5, 0.5, 0.5."
    )
    assert describe_input(TrainConfig()) == (
        "Input: 128x128 pixels; bicubic; mean 0.485, 0.456, 0.406; std 0.229, 0.224, 0.225."
    )


def test_training_and_its_checkpoint_use_the_backbones_own(
    weights: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings = ["model.backbone=test_resnet", f"model.weights={weights}", "model.feature_level=2", "model.dim=16"]
    short = ["image={height: 32, width: 32}", "epochs=1", "contrastive_epochs=0", "batch_size=8", "workers=0"]
    run = tmp_path / "run"
    train_run(dataset, run, make_config([*settings, *short, "device=cpu"]), RunOptions(report=False))
    assert "mean 0.5, 0.5, 0.5; std 0.5, 0.5, 0.5. The weights of test_resnet were" in capsys.readouterr().out
    tagger, spec = load_checkpoint(run)
    assert (spec.image.mean, spec.image.std, spec.image.interpolation) == (HALF, HALF, "bilinear")
    assert spec == TrainedSpec.read(run)
    assert trained_image(run) == spec.image
    torch.testing.assert_close(tagger.mean.flatten(), torch.full((3,), 127.5))
    torch.testing.assert_close(tagger.std.flatten(), torch.full((3,), 127.5))
