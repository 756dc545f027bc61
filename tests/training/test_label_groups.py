"""The table of everyday words, and what a table may not say."""

from pathlib import Path

import pytest

from labelwise.errors import LabelwiseError
from training.label_groups import class_name, groups_of, read_groups

# The names of COCO's categories that ImageNet has in other words.
COCO_NAMES = "person bicycle car motorcycle airplane bus train truck boat bird cat dog horse sheep cow tv couch laptop"


def test_the_table_of_everyday_words():
    groups = read_groups()
    assert len(groups) >= 150
    assert all(groups.values())
    assert set(COCO_NAMES.split()) <= set(groups)
    assert class_name(groups["keyboard"][0]) == "computer keyboard"
    assert len(groups["dog"]) == 118  # Chihuahua to Mexican hairless


def test_a_label_is_a_group_or_else_a_class_and_case_is_ignored():
    groups = {"Ape": (365, 366)}
    assert groups_of(["ape", "zebra", "Zebra", "nothing of the kind", "crane"], groups) == [
        (365, 366),
        (340,),
        (340,),
        (),
        (),  # a bird and a machine
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dog: [Chihuahua, unicorn]", "the group dog names unicorn, which is no class of ImageNet"),
        ("bird: [crane]", "names crane, which several classes are called: crane@134 or crane@517"),
        ("bird: [crane@9]", "names crane@9, which is no class of ImageNet"),
        ("horse: [zebra]\nanimal: [zebra]", "the class zebra is in the groups horse and animal: keep it in one"),
        ("horse: [zebra, zebra]", "the group horse names a class twice"),
        ("- zebra", "must hold groups of classes"),
        ("horse: zebra", "must hold groups of classes"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_a_table_may_not_say(text: str, words: str, tmp_path: Path):
    (tmp_path / "groups.yaml").write_text(text)
    with pytest.raises(LabelwiseError, match=words) as caught:
        read_groups(tmp_path / "groups.yaml")
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path):
    with pytest.raises(LabelwiseError, match=r"groups\.yaml cannot be read: No such file"):
        read_groups(tmp_path / "groups.yaml")
