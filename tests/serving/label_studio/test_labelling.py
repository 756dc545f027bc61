"""Labelling configurations: what a tagger can answer, and which labels the choices are."""

import pytest

from labelwise.errors import DataError
from serving.label_studio.labelling import Choice, Question, label_to_teach, labels_of, read_questions


def question(*choices: str | tuple[str, str], multiple: bool = True) -> Question:
    made = [Choice(each, each) if isinstance(each, str) else Choice(*each) for each in choices]
    return Question("scene", "image", "photo", multiple, tuple(made))


def test_choices_about_photos_are_read_and_nothing_else() -> None:
    config = """<View>
        <Image name="image" value="$photo"/><Image name="many" valueList="$photos"/><Text name="text" value="$text"/>
        <Choices name="scene" toName="image" choice="multiple"><Header value="Where?"/>
            <Choice value="Sea &amp; beach"/><Choice value="Abend" alias="sunset" hint="x"/></Choices>
        <Choices name="one" toName="image" choice="single-radio"><Choice value="day"/></Choices>
        <Choices name="mood" toName="text"><Choice value="glad"/></Choices>
        <Choices name="region" toName="image" perRegion="true"><Choice value="wet"/></Choices>
        <Choices name="tree" toName="image"><Choice value="a"><Choice value="b"/></Choice></Choices>
        <Choices name="own" toName="image" value="$options"/>
        <RectangleLabels name="box" toName="image"><Label value="cat"/></RectangleLabels></View>"""
    assert read_questions(config) == (
        Question("scene", "image", "photo", True, (Choice("Sea & beach", "Sea & beach"), Choice("Abend", "sunset"))),
        Question("one", "image", "photo", False, (Choice("day", "day"),)),
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("", "is not XML"),
        ("<View", "is not XML"),
        ("<View/>", "no <Choices> for an <Image>"),
        ('<!DOCTYPE v [<!ENTITY x SYSTEM "file:///etc/passwd">]><View>&x;</View>', "no <Choices>"),
    ],
)
def test_a_configuration_without_such_choices_is_refused(config: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_questions(config)


@pytest.mark.parametrize(
    ("choices", "labels", "found"),
    [
        (("sea", "lake"), ("sea", "beach"), {"sea": "sea"}),
        (("SEA", ("Strand", "beach")), ("sea", "beach"), {"SEA": "sea", "beach": "beach"}),
        ((("beach", "b1"),), ("beach",), {"b1": "beach"}),
        (("sea", "Sea"), ("sea",), {"sea": "sea"}),  # the exact one; nothing is left for the other
        (("SEA", "Sea"), ("sea",), {}),  # which of them?
        (("SEA",), ("sea", "Sea"), {}),
        ((" Cafe\u0301 ",), ("café",), {" Cafe\u0301 ": "café"}),
    ],
)
def test_the_label_of_a_choice(choices: tuple[str, ...], labels: tuple[str, ...], found: dict[str, str]) -> None:
    assert labels_of(question(*choices), labels) == found


def test_a_choice_that_the_model_lacks_is_taught_as_exports_name_it() -> None:
    asked = question("SEA", ("Helm", "helmet"))
    known = labels_of(asked, ("sea",))
    assert [label_to_teach(choice, known) for choice in asked.choices] == ["sea", "helmet"]
