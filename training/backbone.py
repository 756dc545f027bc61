"""timm backbones as feature extractors, from scratch, from timm's hub, or from a file."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import nn

from labelwise.errors import LabelwiseError
from labelwise.spec import ImageSpec
from training.config import ModelConfig


def make_backbone(config: ModelConfig) -> nn.Module:
    """The backbone of `config`, which returns a list of one feature map. Raises LabelwiseError."""
    options = _weight_options(config) | {"features_only": True, "out_indices": (config.feature_level,)}
    if config.weights is not None:  # timm warns of the file's classifier; `_check_weights` has checked the file
        logging.getLogger("timm.models._builder").setLevel(logging.ERROR)
    try:
        try:
            return timm.create_model(config.backbone, **options, drop_path_rate=config.drop_path)
        except TypeError:  # VGG and DenseNet have no stochastic depth
            return timm.create_model(config.backbone, **options)
    except OSError as error:  # the hub cannot be reached
        raise LabelwiseError(
            f"The weights of {config.backbone!r} cannot be fetched: give a file with model.weights=FILE, or start from "
            "scratch with model.pretrained=false."
        ) from error
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise LabelwiseError(
            f"timm cannot make {config.backbone!r} with feature level {config.feature_level} ({first_line(error)}): "
            "choose another model.backbone or model.feature_level."
        ) from error


def _weight_options(config: ModelConfig) -> dict[str, Any]:
    if config.weights is None:
        return {"pretrained": config.pretrained}
    _check_weights(config.weights, config.backbone)
    # Drops the file's classifier, which has another number of classes.
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(config.weights)}}


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
    channels = backbone.feature_info.channels()[0]
    if shape[0] == channels:
        return FeatureShape(channels, (shape[1], shape[2]), is_channels_last=False)
    return FeatureShape(channels, (shape[0], shape[1]), is_channels_last=True)  # Swin and similar


def first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
