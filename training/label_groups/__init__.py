"""Labels as groups of ImageNet's classes: which of a pretrained classifier's answers mean the same everyday word."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from timm.data import ImageNetInfo

from labelwise.errors import LabelwiseError
from training.config import ModelConfig
from training.pretrained import CLASSES
from training.yaml_values import YamlError, parse_yaml

EVERYDAY = Path(__file__).parent / "everyday.yaml"

Groups = dict[str, tuple[int, ...]]  # a label's classes, as their numbers in ImageNet's usual order


def read_groups(file: Path = EVERYDAY) -> Groups:
    """The groups in a YAML file of `label: [class, first .. last, name@number, …]`. Raises LabelwiseError.

    A class is named by any of its WordNet synonyms, or as name@number where several classes share the name. `A .. B` is
    a range in ImageNet's order, which keeps kinds of animals together. A class belongs to one label.
    """
    try:
        content = parse_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise LabelwiseError(f"{file} cannot be read: {error.strerror}.") from error
    except (YamlError, UnicodeDecodeError) as error:
        raise LabelwiseError(f"{file} is not YAML: {error}.") from error
    if not isinstance(content, dict) or not all(isinstance(names, list) for names in content.values()):
        raise LabelwiseError(f"{file} must hold groups of classes, as `dog: [Chihuahua .. Mexican hairless]`.")
    groups = {str(label): _classes(label, names, file) for label, names in content.items()}
    owner: dict[int, str] = {}
    for label, classes in groups.items():
        for number in classes:
            if (other := owner.setdefault(number, label)) != label:
                raise LabelwiseError(
                    f"{file}: the class {class_name(number)} is in the groups {other} and {label}: keep it in one."
                )
    return groups


def own_groups(config: ModelConfig) -> Groups:
    """The groups that the settings name, or labelwise's own. Raises LabelwiseError."""
    return read_groups(config.label_groups or EVERYDAY)


def groups_of(labels: Sequence[str], groups: Groups) -> list[tuple[int, ...]]:
    """The classes of each label: its group's, or else the class of that name; () without either. Case is ignored."""
    known = {label.casefold(): classes for label, classes in groups.items()}
    return [known.get(label.casefold()) or _class_named(label) for label in labels]


def class_name(number: int) -> str:
    """The first of a class's synonyms."""
    return _synonyms()[number][0]


def _classes(label: object, names: list[object], file: Path) -> tuple[int, ...]:
    found: list[int] = []
    for name in map(str, names):
        first, dots, last = name.partition(" .. ")
        ends = [_number(part, label, file) for part in ((first, last) if dots else (first,))]
        found += range(ends[0], ends[-1] + 1)
    if len(set(found)) < len(found):
        raise LabelwiseError(f"{file}: the group {label} names a class twice.")
    return tuple(found)


def _number(name: str, label: object, file: Path) -> int:
    bare, _, stated = name.partition("@")
    numbers = _numbers().get(bare.casefold(), ())
    if stated:
        numbers = tuple(number for number in numbers if str(number) == stated)
    if not numbers:
        raise LabelwiseError(f"{file}: the group {label} names {name}, which is no class of ImageNet.")
    if len(numbers) > 1:
        choices = " or ".join(f"{bare}@{number}" for number in numbers)
        raise LabelwiseError(f"{file}: the group {label} names {name}, which several classes are called: {choices}.")
    return numbers[0]


def _class_named(label: str) -> tuple[int, ...]:
    numbers = _numbers().get(label.casefold(), ())
    return numbers if len(numbers) == 1 else ()


@lru_cache
def _synonyms() -> list[list[str]]:
    info = ImageNetInfo()
    return [info.index_to_description(number, detailed=False).split(", ") for number in range(CLASSES)]


@lru_cache
def _numbers() -> dict[str, tuple[int, ...]]:
    """The classes of each synonym. The first synonym of a class counts before other classes' further ones."""
    first: dict[str, list[int]] = {}
    further: dict[str, list[int]] = {}
    for number, (name, *others) in enumerate(_synonyms()):
        first.setdefault(name.casefold(), []).append(number)
        for other in others:
            further.setdefault(other.casefold(), []).append(number)
    return {name: tuple(numbers) for name, numbers in (further | first).items()}
