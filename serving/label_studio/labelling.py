"""Reads a project's labelling configuration: which choices are asked about which photo, and which labels they are."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lxml import etree

from labelwise.errors import DataError
from labelwise.label_names import clean_name


@dataclass(frozen=True)
class Choice:
    """`value` is what people see. `result` is what Label Studio stores: the alias, if there is one."""

    value: str
    result: str


@dataclass(frozen=True)
class Question:
    """One `Choices` about an `Image`. `data_key` is the field of the task's data that names the photo."""

    name: str
    image: str
    data_key: str
    is_multiple: bool
    choices: tuple[Choice, ...]


def read_questions(config: str) -> tuple[Question, ...]:
    """The questions of a labelling configuration that a tagger can answer.

    Left out: choices for regions, trees of choices, and choices that each task brings itself. Raises DataError if
    nothing remains.
    """
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        root = etree.fromstring(config.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise DataError(f"The labelling configuration is not XML: {error}.") from error
    photos = {tag.get("name"): tag.get("value", "")[1:] for tag in root.iter("Image") if _is_variable(tag)}
    questions = tuple(question for tag in root.iter("Choices") for question in _question(tag, photos))
    if not questions:
        raise DataError(
            "The labelling configuration has no <Choices> for an <Image> as a whole: labelwise answers only these."
        )
    return questions


def labels_of(question: Question, labels: Sequence[str]) -> dict[str, str]:
    """The model's label for each choice that has one, by the choice's `result`.

    A choice and a label match by alias or value, in the same spelling, or without regard to case if only one choice and
    one label do.
    """
    known, found = set(labels), dict[str, str]()
    for choice in question.choices:
        if exact := next((name for name in _names(choice) if name in known - {*found.values()}), None):
            found[choice.result] = exact
    free = [label for label in labels if label not in found.values()]
    counts = Counter(map(_folded, free))
    by_name = {_folded(label): label for label in free if counts[_folded(label)] == 1}
    wanted = {
        choice.result: label
        for choice in question.choices
        if choice.result not in found
        and (label := next((by_name[name] for name in map(_folded, _names(choice)) if name in by_name), None))
    }
    wishes = Counter(wanted.values())
    return found | {result: label for result, label in wanted.items() if wishes[label] == 1}


def label_to_teach(choice: Choice, known: Mapping[str, str]) -> str:
    """The label that answers to `choice` teach: the model's, or a new one named as exports name the choice."""
    return known.get(choice.result, clean_name(choice.result))


def _is_variable(tag: etree._Element) -> bool:
    return bool(tag.get("value", "").startswith("$"))


def _question(tag: etree._Element, photos: Mapping[str | None, str]) -> Iterator[Question]:
    image, choices = tag.get("toName"), [*tag.iter("Choice")]
    is_plain = all(choice.getparent() is tag for choice in choices) and not tag.get("value")
    is_about_all = not any(tag.get(name) == "true" for name in ("perRegion", "perItem", "allowNested"))
    found = tuple(_choices(choices))
    if image in photos and tag.get("name") and is_plain and is_about_all and found:
        yield Question(tag.get("name"), image, photos[image], tag.get("choice") == "multiple", found)


def _choices(tags: Sequence[etree._Element]) -> Iterator[Choice]:
    for tag in tags:
        if value := tag.get("value"):
            yield Choice(value, tag.get("alias") or value)


def _names(choice: Choice) -> tuple[str, ...]:
    return clean_name(choice.result), clean_name(choice.value)


def _folded(name: str) -> str:
    return clean_name(name).casefold()
