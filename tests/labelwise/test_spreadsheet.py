"""Encodings and separators of spreadsheets are recognised."""

import csv
import io

import pytest

from labelwise.spreadsheet import encoding_of, read_cells

COLUMNS = ("image", "path")


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", ["image,Straße\n0.jpg,1\n", "image,日本\n0.jpg,1\n", '{"image": "0.jpg"}'])
def test_encodings(codec: str, text: str):
    content = text.encode(codec)
    assert content.decode(encoding_of(content)) == text


def test_an_empty_text_and_one_with_a_stray_zero_byte_are_utf8():
    assert encoding_of(b"") == encoding_of(b"image,cat\n\0,1" + b"x" * 90) == "utf-8-sig"


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("image,labels\n0.jpg,a;b", ["image", "labels"]),
        ("image;a, b;c, d\n", ["image", "a, b", "c, d"]),
        ("a;b,Path\n", ["a;b", "Path"]),
        ("a\tb\timage\n", ["a", "b", "image"]),
        ("a;b;c\n", ["a", "b", "c"]),  # no column of paths: the caller reports that
        ("sep=|\nimage|a,b\n", ["image", "a,b"]),
        ('"sep=,"\nimage,a\n', ["image", "a"]),
        ('"image";"a\nb"\n', ["image", "a\nb"]),
        ("", []),
    ],
)
def test_separators(text: str, header: list[str]):
    rows = [cells for _, cells in read_cells(io.StringIO(text, newline=""), COLUMNS)]
    assert rows[:1] == [header][: bool(header)]


def test_blank_rows_are_left_out_and_lines_counted():
    rows = list(read_cells(io.StringIO('\n,,\nimage,a\n"0\n.jpg",1\n,\n\n1.jpg,0\n', newline=""), COLUMNS))
    assert rows == [(3, ["image", "a"]), (5, ["0\n.jpg", "1"]), (8, ["1.jpg", "0"])]


def test_a_cell_without_end_is_an_error():
    with pytest.raises(csv.Error):
        list(read_cells(io.StringIO("image,a\n" + "x" * 200_000, newline=""), COLUMNS))
