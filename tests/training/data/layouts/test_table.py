"""Lists of names as programs write them into a cell."""

import json

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.layouts.table import is_list, parse_list

NAMES = st.lists(st.text(min_size=1).filter(str.isprintable))
TRICKY = [
    ["it's", "hot dog"],
    ['say "hi"', "a\\b"],
    ["Smith, John"],
    ["1990", "null", "NULL"],
    ["[x]", "{y}"],
    ["a: b"],
]


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("['sea' 'hot dog']", ["sea", "hot dog"]),  # NumPy
        ("['sea'\n \"it's\"]", ["sea", "it's"]),
        ('{sea,"Smith, John"}', ["sea", "Smith, John"]),  # PostgreSQL
        ("[sea, 'Smith, John', 1990]", ["sea", "Smith, John", "1990"]),  # DuckDB
        ("('sea',)", ["sea"]),
        ("()", []),
        ("{}", {}),
        ("set()", []),
        ("['caf\\xe9', '\\u65e5']", ["café", "日"]),
    ],
)
def test_a_list_is_read_as_its_program_means_it(cell: str, names: list[str]):
    assert is_list(cell)
    assert parse_list(cell) == names


@given(NAMES)
def test_lists_of_python_and_json_are_read_back(names: list[str]):
    for text in (str(names), json.dumps(names), json.dumps(names, ensure_ascii=False), str(tuple(names))):
        assert is_list(text)
        assert parse_list(text) == names


@pytest.mark.parametrize("names", TRICKY)
def test_lists_of_duckdb_numpy_and_sets_are_read_back(names: list[str]):
    (text,) = duckdb.execute("SELECT $1::VARCHAR[]::VARCHAR", [names]).fetchone() or ("",)
    assert parse_list(text) == names
    assert parse_list(str(np.array(names, dtype=object))) == names
    assert sorted(parse_list(str({*names}))) == sorted(names)


@pytest.mark.parametrize("cell", ["[a", "{'a': 1}", "['a''b']", "[a, NULL]", "['a', None]", "[[a], [b]]", "['a' b]"])
def test_what_is_no_list_of_names_is_given_back(cell: str):
    assert parse_list(cell) == cell


def test_names_that_begin_with_parentheses_are_no_list():
    assert not is_list("(flying) bird, (small) dog")
