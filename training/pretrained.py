"""How photos are prepared for a backbone's pretrained weights: size, interpolation, mean and std."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import timm

from labelwise.spec import ImageSpec
from training.config import ModelConfig, TrainConfig

_INTERPOLATIONS = get_args(ImageSpec.model_fields["interpolation"].annotation)


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
