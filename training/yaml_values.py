"""YAML with the numbers, booleans and nulls of YAML 1.2 (section 10.3.2), for setting files and `key=value`."""

import re
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_FLOW = tuple("[{\"'")  # how a list, a mapping and quoted text begin


class YamlError(ValueError):
    """The text is not YAML. The message says why, in one line."""


class _Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, which reads 1e-4 as text, 010 as eight and 1:30 as ninety."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - where PyYAML keeps them


_Loader.add_implicit_resolver(_TAG + "null", re.compile("(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_TAG + "bool", re.compile("(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_INT = r"[-+]?(?:0|[1-9]\d*)|0o[0-7]+|0x[0-9a-fA-F]+"
_FLOAT = r"[-+]?(?:\.\d+|\d+\.?\d*)(?:[eE][-+]?\d+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_Loader.add_implicit_resolver(_TAG + "int", re.compile(f"(?:{_INT})$", re.ASCII), list("-+0123456789"))
_Loader.add_implicit_resolver(_TAG + "float", re.compile(f"(?:{_FLOAT})$", re.ASCII), list("-+.0123456789"))
_Loader.add_implicit_resolver(_TAG + "merge", re.compile("<<$"), ["<"])


def parse_yaml(text: str) -> Any:
    """The content of the document `text`. Raises YamlError."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        where = f"line {place.line + 1}, column {place.column + 1}: " if place else ""
        raise YamlError(f"{where}{error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an integer of too many digits
        raise YamlError(" ".join(str(error).split())) from error


def parse_value(text: str) -> Any:
    """A list, a mapping or quoted text in YAML's flow style, otherwise one plain scalar. Raises YamlError.

    The whole text is the scalar: a path may hold ` #` and `: `, which would end a scalar in a document.
    """
    text = text.strip()
    if text.startswith(_FLOW):
        return parse_yaml(text)
    loader = _Loader("")
    try:
        return loader.construct_object(yaml.ScalarNode(loader.resolve(yaml.ScalarNode, text, (True, False)), text))
    except ValueError as error:
        raise YamlError(str(error)) from error
