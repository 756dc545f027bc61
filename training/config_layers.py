"""Makes a run's settings from layers: defaults, a preset, a YAML file, and `key=value` from the command line."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labelwise.errors import LabelwiseError
from labelwise.spec import ImageSpec
from labelwise.validation import Refusal, first_refusal, split_assignment
from training.config import TrainConfig
from training.yaml_values import YamlError, parse_value, parse_yaml

_PRESETS = Path(__file__).parent / "presets"


def preset_names() -> list[str]:
    return sorted(file.stem for file in _PRESETS.glob("*.yaml"))


def make_config(
    settings: list[str], preset: str | None = None, file: Path | None = None, kept: ImageSpec | None = None
) -> TrainConfig:
    """A TrainConfig from the layers; later layers win. Raises LabelwiseError, which names the wrong setting.

    Pretrained weights add a layer right above the defaults: the size, interpolation, mean and std that they were
    trained with. For a resumed run, `kept` replaces this layer with what the run began with.
    """
    layers = [TrainConfig().model_dump()]
    if preset is not None:
        layers.append(_read_preset(preset))
    if file is not None:
        layers.append(_read_yaml(file))
    layers.append(_nested(settings))
    config = _validated(layers)
    if not config.model.starts_pretrained:
        return config
    from training.backbone import own_image  # timm takes seconds to import

    own = kept.model_dump() if kept else own_image(config.model)
    return _validated([layers[0], {"image": own}, *layers[1:]])


def _validated(layers: list[dict[str, Any]]) -> TrainConfig:
    try:
        return TrainConfig.model_validate(functools.reduce(_merged, layers))
    except ValidationError as error:
        raise LabelwiseError(_sentence(first_refusal(error))) from error


def _sentence(refusal: Refusal) -> str:
    """Replaces pydantic's words for lists and sections, which it calls tuples and dictionaries."""
    kind, place, words = refusal.kind, refusal.place, refusal.reason
    if kind == "missing" and isinstance(place[-1], int):
        kind, place = "too_short", place[:-1]
    name = ".".join(map(str, place)) or "of the run"
    if kind in ("tuple_type", "too_short", "too_long"):
        words = f"a list of three values is needed, as in '{name}=[0.5, 0.5, 0.5]'"
    elif kind == "model_type":
        words = f"it has parts, which are set as {name}.NAME=VALUE"
    return f"The setting {name}: {words}."


def setting_names(settings: list[str]) -> list[str]:
    """The dotted names that `settings` set: model.dim for `model={dim: 64}` as for `model.dim=64`."""
    return [name for name, _ in flattened(_nested(settings))]


def flattened(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings with dotted names, as --set takes them, and their values."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _read_preset(name: str) -> dict[str, Any]:
    if name not in preset_names():
        raise LabelwiseError(f"There is no preset {name!r}: choose one of {', '.join(preset_names())}.")
    return _read_yaml(_PRESETS / f"{name}.yaml")


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = parse_yaml(file.read_text(encoding="utf-8-sig")) or {}
    except OSError as error:
        raise LabelwiseError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # YamlError, or bytes that are not UTF-8
        raise LabelwiseError(f"{file} is not YAML: {error}.") from error
    if not isinstance(content, dict):
        raise LabelwiseError(f"{file} must hold settings, as `epochs: 10`; see training/presets.")
    return content


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`below` with `above` laid over it, section by section."""
    merged = below | above
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            merged[key] = _merged(below[key], value)
    return merged


def _nested(pairs: list[str]) -> dict[str, Any]:
    """A nested dict from `a.b=1` pairs with YAML values; later pairs win."""
    nested: dict[str, Any] = {}
    for pair in pairs:
        key, text = split_assignment(pair)
        *parents, leaf = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise LabelwiseError(f"The setting {pair!r}: {parent} has no parts.")
        try:
            value = parse_value(text)
        except YamlError as error:
            raise LabelwiseError(f"The setting {pair!r}: the value is not YAML: {error}.") from error
        place.update(_merged(place, {leaf: value}))
    return nested
