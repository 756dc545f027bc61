"""Names in a cell are split and joined by one rule, and names that are too much alike are found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelwise.label_names import alike, case_fault, clean_name, join_names, same_but_for_case, split_names


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("", []),
        (" ;, |\n", []),
        ("cat, pet", ["cat", "pet"]),
        ("cat;hot dog | bird\r\nfish", ["cat", "hot dog", "bird", "fish"]),
        (' "Smith, John" ; cat', ["Smith, John", "cat"]),
        ('"a;b|c"', ["a;b|c"]),
        ('"the ""big"" one",x', ['the "big" one', "x"]),
        ('5" disc, x', ['5" disc', "x"]),
        ("rock 'n' roll", ["rock 'n' roll"]),
        ("cafe\u0301", ["café"]),
    ],
)
def test_a_cell_is_split(cell: str, names: list[str]):
    assert split_names(cell) == names


@pytest.mark.parametrize("cell", ['"cat', 'dog; "cat, pet', '"cat" pet; dog', '"'])
def test_a_quoted_name_must_end_at_a_separator(cell: str):
    with pytest.raises(ValueError, match="does not end at a separator"):
        split_names(cell)


@given(st.lists(st.text(alphabet=' ab,;|"[]\n\ré', min_size=1).map(clean_name).filter(bool)))
def test_what_is_joined_is_split_into_the_same_names(names: list[str]):
    assert split_names(join_names(names)) == names


def test_names_are_quoted_only_where_they_must_be():
    assert join_names(["hot dog", "a.b", "c/d"]) == "hot dog;a.b;c/d"
    assert join_names(["a;b", "c,d", "e|f", '5"', "[x]", "{x}", "(x) y", "+1", "a-b"]) == (
        '"a;b";"c,d";"e|f";"5""";"[x]";"{x}";"(x) y";"+1";a-b'
    )


def test_labels_that_differ_only_by_case_are_found():
    labels = ["Cat", "dog", "cat", "caf\u00e9", "CAFE\u0301", "Ma\u00dfe", "Masse", "cat s", "cats"]
    assert same_but_for_case(labels) == [["Cat", "cat"], ["caf\u00e9", "CAFE\u0301"]]
    fault = case_fault(labels)
    assert fault is not None
    assert "'Cat' and 'cat'; 'café' and 'CAFE\\u0301' differ only by case" in fault
    assert case_fault(["cat", "dog", "cats"]) is None


def test_labels_that_differ_only_by_case_space_or_punctuation_are_found():
    labels = ["hot dog", "cat", "Hot-Dog", "hotdog!", "C++", "C", "+", "-", "😀", "😁", "日本", "日 本"]
    assert alike(labels) == [["hot dog", "Hot-Dog", "hotdog!"], ["C++", "C"], ["日本", "日 本"]]
