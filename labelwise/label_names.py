"""Label names as text: several names in one cell or sentence, and names that are too similar."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

_NAMED_AT_MOST = 10

_PLAIN = re.compile(r"[^,;|\r\n]*")
_QUOTED = re.compile(r'\s*"([^"]*(?:""[^"]*)*)"\s*(?=[,;|\r\n]|\Z)')
_NEEDS_QUOTES = re.compile(r'[,;|\r\n"]|^[\[{(=+\-@]')  # the beginning of a list or a formula


def clean_name(text: str) -> str:
    """The name in Unicode's form NFC, without white space around it. macOS has file names in NFD."""
    return unicodedata.normalize("NFC", text.strip())


def split_names(cell: str) -> list[str]:
    """The names in a cell, separated by commas, semicolons, bars or line ends, without empty ones.

    A name in double quotes may hold separators, and a doubled quote stands for one, as in CSV (RFC 4180, section 2).
    Raises ValueError if a quoted name does not end where a separator or the cell does.
    """
    names, at = [], 0
    while at <= len(cell):
        if quoted := _QUOTED.match(cell, at):
            name, at = clean_name(quoted[1].replace('""', '"')), quoted.end()
        else:
            plain = _PLAIN.match(cell, at)
            assert plain is not None  # it also matches the empty string
            name, at = clean_name(plain[0]), plain.end()
            if name.startswith('"'):
                raise ValueError(f"the quoted name that begins with {name[:20]} does not end at a separator")
        if name:
            names.append(name)
        at += 1  # the separator
    return names


def join_names(names: Iterable[str]) -> str:
    """A cell that `split_names` reads as `names`: separated by semicolons, with quotes if a name needs them."""
    return ";".join('"' + name.replace('"', '""') + '"' if _NEEDS_QUOTES.search(name) else name for name in names)


def some(names: Sequence[str]) -> str:
    """The first ten names and the number of others. Escapes what a terminal cannot print."""
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(map(printable, names[:_NAMED_AT_MOST])) + (f" and {more} more" if more > 0 else "")


def printable(name: str) -> str:
    """`name`, escaped if a terminal cannot print it."""
    return name if name.isprintable() else ascii(name)


def can_be_shown(name: str) -> bool:
    """Whether every sign of it can be printed, and none stands in place of bytes that were not UTF-8."""
    return name.isprintable() and "\N{REPLACEMENT CHARACTER}" not in name


def same_but_for_case(labels: Sequence[str]) -> list[list[str]]:
    """The groups of labels that differ only by case, or in how Unicode composes their letters."""
    return _groups(labels, without_case)


def without_case(label: str) -> str:
    """The same text for labels that differ only by case, or in how Unicode composes their letters."""
    return clean_name(clean_name(label).lower())


def alike(labels: Sequence[str]) -> list[list[str]]:
    """The groups of labels that differ only by case, white space or punctuation."""
    return _groups(labels, _letters)


def case_fault(labels: Sequence[str]) -> str | None:
    """An error text if labels differ only by case, otherwise None.

    SQL compares names without case: for the columns Cat and cat, DuckDB reads Cat twice.
    """
    groups = same_but_for_case(labels)
    if not groups:
        return None
    return (
        f"the labels {shown_groups(groups)} differ only by case, and DuckDB, Spark and others read them as one column"
    )


def shown_groups(groups: Sequence[Sequence[str]]) -> str:
    """The first five groups, such as "'Cat' and 'cat'; 'dog' and 'Dog'"."""
    more = f"; and {len(groups) - 5} more" if len(groups) > 5 else ""
    return "; ".join(" and ".join(map(_shown, group)) for group in groups[:5]) + more


def _groups(labels: Sequence[str], key: Callable[[str], str]) -> list[list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        found[key(label)].append(label)
    return [group for group in found.values() if len(group) > 1]


def _letters(label: str) -> str:
    folded = unicodedata.normalize("NFKC", label).casefold()
    return "".join(filter(_counts, folded)) or folded


def _counts(sign: str) -> bool:
    """True for letters, digits, marks, and symbols such as emoji; ASCII's symbols serve as punctuation."""
    category = unicodedata.category(sign)[0]
    return category in "LNM" or (category == "S" and not sign.isascii())


def _shown(label: str) -> str:
    """The label in quotes, escaped if another spelling looks the same."""
    same_looking = not label.isprintable() or not unicodedata.is_normalized("NFC", label)
    return ascii(label) if same_looking else repr(label)
