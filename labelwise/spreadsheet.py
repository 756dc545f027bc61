"""Reads text tables as spreadsheets save them: finds encoding and separator, and gives rows of cells."""

import codecs
import csv
import re
from collections.abc import Collection, Iterator
from itertools import chain
from typing import TextIO

_SEPARATORS = ",;\t"
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')  # Excel's own first line
_MARKS = {  # UTF-32's little-endian mark begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
HEAD_BYTES = 1024  # what `encoding_of` needs to see


def encoding_of(head: bytes) -> str:
    """The codec of a text that begins with `head`: by its byte order mark, by UTF-16's zero bytes, otherwise UTF-8."""
    if marked := next((codec for mark, codec in _MARKS.items() if head.startswith(mark)), None):
        return marked
    even, odd = (head[start:HEAD_BYTES:2].count(0) for start in (0, 1))
    if max(even, odd) * 8 > min(len(head), HEAD_BYTES):  # UTF-16 without a mark: every other byte of ASCII text is 0
        return "utf-16-be" if even > odd else "utf-16-le"
    return "utf-8-sig"


def read_cells(stream: TextIO, columns: Collection[str]) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the number of its last line. The first is the header. Raises csv.Error.

    A line `sep=` names the separator. Otherwise it is the one of comma, semicolon and tab that gives the header a
    column of `columns`, in upper or lower case, and the most columns. Open `stream` with newline="".
    """
    skipped, first = 0, stream.readline()
    separator = ""
    while first and not first.strip(_SEPARATORS + '" \r\n'):
        skipped, first = skipped + 1, stream.readline()
    if stated := _SEPARATOR_LINE.fullmatch(first):
        separator, skipped, first = stated[1], skipped + 1, stream.readline()
    reader = csv.reader(chain([first], stream), delimiter=separator or _separator_of(first, columns))
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num + skipped, cells


def _separator_of(header: str, columns: Collection[str]) -> str:
    def worth(separator: str) -> tuple[bool, int]:
        names = [name.strip().lower() for name in next(csv.reader([header], delimiter=separator), [])]
        return any(name in columns for name in names), len(names)

    return max(_SEPARATORS, key=worth)
