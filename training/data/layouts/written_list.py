"""Reads a list of names that a program wrote as text into one cell of a table."""

import json
import re
from typing import Any

_ENDS = {"[": "]", "{": "}", "(": ")"}
# Parentheses are common in names; they make a list only around quotes: ('cat', 'dog') and ().
_BEGINS = re.compile(r"""\[|\{|\(\s*(?:["']|\)\Z)""")
_QUOTED = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')(\s*,\s*|\s+(?=["'])|\s*\Z)""", re.DOTALL)
_BARE = re.compile(r"""([^"',\[\](){}\s][^,\[\]{}]*)(?:,\s*|\Z)""")
_ESCAPE = re.compile(r"\\(?:x(..)|u(....)|U(.{8})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}
_NO_NAMES = {"null", "none", "nan"}


def is_list(cell: str) -> bool:
    return cell == "set()" or bool(_BEGINS.match(cell))


def parse_list(cell: str) -> Any:
    """The content of the list, or `cell` itself if it is not a list of names.

    JSON: ["a", "b"]. Python: ['a', 'b'], {'a'} and ('a',). NumPy: ['a' 'b']. DuckDB: [a, 'b, c']. PostgreSQL:
    {a,"b, c"}.
    """
    if cell == "set()":
        return []
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        names = _names(cell[1:-1].strip()) if cell.endswith(_ENDS[cell[0]]) else None
        return cell if names is None else names


def _names(text: str) -> list[str] | None:
    """None if `text` is not a sequence of names, quoted or bare, with commas between them."""
    names, at = [], 0
    while at < len(text):
        if quoted := _QUOTED.match(text, at):
            names.append(_ESCAPE.sub(_unescaped, quoted[1][1:-1]))
            at = quoted.end()
        elif (bare := _BARE.match(text, at)) and bare[1].rstrip().lower() not in _NO_NAMES:
            names.append(bare[1].rstrip())
            at = bare.end()
        else:
            return None
    return names


def _unescaped(escape: re.Match[str]) -> str:
    if digits := escape[1] or escape[2] or escape[3]:
        try:
            return chr(int(digits, 16))
        except (ValueError, OverflowError):  # not a number, or beyond Unicode
            return escape[0]
    return _CONTROLS.get(escape[4], escape[4])
