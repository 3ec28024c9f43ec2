"""Configuration documents: YAML text or Python mappings in, plain values out.

YAML is read by the core schema of YAML 1.2. PyYAML's own loaders read YAML 1.1, in which ``no`` is false, ``1:30`` is ninety,
``010`` is eight and ``1e-3`` is text; on odd input they raise errors of many types, and of two equal keys they keep the last.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from adjobs.errors import shorten, shown

MAX_BYTES = 2**20
"""Of the YAML files that people write."""

MAX_DEPTH = 32
"""Of mappings and lists in each other."""

MAX_DIGITS = 400
"""Of a number; Python itself refuses to read more than 4300."""

MAX_VALUES = 100_000
"""In one document, with each alias counted as what it stands for."""

_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"(?:~|null|Null|NULL|)$")
_BOOLEAN = re.compile(r"(?:true|True|TRUE|false|False|FALSE)$")
_INTEGER = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
# Control characters, halves of characters, and what is no character.
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_FIRST_OF_NUMBERS = list("-+.0123456789")


class InvalidDocumentError(ValueError):
    """What is wrong with a document, in one line."""


class _Composer(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer, yaml.resolver.BaseResolver):
    """From text to nodes with tags of the core schema."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        yaml.resolver.BaseResolver.__init__(self)


class _Dumper(yaml.SafeDumper):
    """Puts every text in quotes that the core schema or YAML 1.1 would read as something else."""


_Composer.add_implicit_resolver(_TAG + "null", _NULL, ["~", "n", "N", ""])
_Composer.add_implicit_resolver(_TAG + "bool", _BOOLEAN, list("tTfF"))
for _class in (_Composer, _Dumper):
    _class.add_implicit_resolver(_TAG + "int", _INTEGER, _FIRST_OF_NUMBERS)
    _class.add_implicit_resolver(_TAG + "float", _FLOAT, _FIRST_OF_NUMBERS)


def load_yaml(text: str, *, integer_keys: bool = False) -> Any:
    """The value in a YAML text: mappings with text as keys, lists, texts, numbers, booleans and None.

    Args:
        text: the document.
        integer_keys: also allow whole numbers as keys.

    Raises:
        InvalidDocumentError: not YAML, a key given twice, a key or a tag of another type, NUL, or larger than the limits above.
    """
    try:
        node = _Composer(text).get_single_node()
        return None if node is None else _Converter(integer_keys=integer_keys).convert(node)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InvalidDocumentError(line + " ".join(filter(None, (error.context, error.problem)))) from error
    except yaml.reader.ReaderError as error:
        raise InvalidDocumentError(
            f"character {error.position + 1}: U+{error.character:04X} is not allowed; remove it"
        ) from error
    except RecursionError as error:
        raise InvalidDocumentError(_TOO_DEEP) from error
    except InvalidDocumentError:
        raise
    except (ValueError, OverflowError) as error:  # of chr()
        raise InvalidDocumentError("an escape beyond \\U0010FFFF; remove it") from error


def dump_yaml(document: object) -> str:
    """A plain document as YAML, which :func:`load_yaml` reads as the same values."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def to_plain(value: object) -> Any:
    """A copy of a value made of what a YAML file can hold: paths become text, numpy's scalars and arrays numbers and lists.

    >>> from pathlib import Path
    >>> to_plain({"data": {"uri": Path("images")}, "params": {"levels": (1, 2)}})
    {'data': {'uri': 'images'}, 'params': {'levels': [1, 2]}}

    Raises:
        InvalidDocumentError: a value that has no such form, a key that is not text, or NUL in a text.
    """
    return _to_plain(value, 0)


_TOO_DEEP = f"more than {MAX_DEPTH} levels deep; write fewer"


class _Converter:
    """From nodes to values; an alias is read as often as it is used, so that no two places share a list."""

    def __init__(self, *, integer_keys: bool) -> None:
        self._integer_keys = integer_keys
        self._count = 0

    def convert(self, node: yaml.Node, depth: int = 0) -> Any:
        self._count += 1
        if depth > MAX_DEPTH:
            raise InvalidDocumentError(_TOO_DEEP)
        if self._count > MAX_VALUES:
            raise InvalidDocumentError(f"more than {MAX_VALUES} values; write fewer, or use aliases less")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if node.tag not in (_TAG + "seq", _TAG + "map"):
            raise _tag_error(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.convert(item, depth + 1) for item in node.value]
        return self._mapping(node, depth)

    def _mapping(self, node: yaml.Node, depth: int) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            key = self.convert(key_node, depth + 1)
            if not isinstance(key, str) and not (self._integer_keys and type(key) is int):
                allowed = "text or a whole number" if self._integer_keys else "text"
                raise InvalidDocumentError(f"{_line(key_node)}key {shown(key)}; must be {allowed}, put it in quotes")
            line = key_node.start_mark.line + 1
            if key in mapping:
                raise InvalidDocumentError(f"key {shown(key)} is given twice, in line {lines[key]} and line {line}; remove one")
            mapping[key], lines[key] = self.convert(value_node, depth + 1), line
        return mapping


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}: "


def _scalar(node: yaml.ScalarNode) -> Any:
    """The value of a scalar, whose tag may be one that the user wrote."""
    kind = node.tag.removeprefix(_TAG)
    if kind == "str":
        return _check_text(node.value, _line(node))
    if kind not in _SCALARS or not _SCALARS[kind][0].match(node.value):
        raise _tag_error(node)
    if len(node.value) > MAX_DIGITS:
        raise InvalidDocumentError(f"{_line(node)}a number of {len(node.value)} characters; allowed are {MAX_DIGITS}")
    return _SCALARS[kind][1](node.value)


def _tag_error(node: yaml.Node) -> InvalidDocumentError:
    tag = shorten(node.tag.replace(_TAG, "!!"))
    return InvalidDocumentError(f"{_line(node)}tag {tag} does not fit its value or is not supported; leave it out")


def _integer(text: str) -> int:
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, tuple[re.Pattern[str], Callable[[str], Any]]] = {
    "null": (_NULL, lambda text: None),
    "bool": (_BOOLEAN, lambda text: text.lower() == "true"),
    "int": (_INTEGER, _integer),
    "float": (_FLOAT, _float),
}


def _check_text(text: str, place: str = "") -> str:
    """The text itself, which can be in a path, in UTF-8 and in YAML."""
    wrong = _NOT_TEXT.search(text)
    if wrong:
        raise InvalidDocumentError(f"{place}U+{ord(wrong[0]):04X} in {shown(text)} is not allowed; remove it")
    return text


def _to_plain(value: object, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise InvalidDocumentError(_TOO_DEEP)
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise InvalidDocumentError(f"key {shown(wrong[0])}; must be text")
        return {_check_text(key): _to_plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item, depth + 1) for item in value]
    if callable(getattr(value, "tolist", None)):  # numpy's and PyTorch's scalars and arrays, without importing either
        return _to_plain(value.tolist(), depth + 1)  # type: ignore[attr-defined]
    return _plain_scalar(value)


def _plain_scalar(value: object) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        if abs(value) >= 10**MAX_DIGITS:
            raise InvalidDocumentError(f"a number of more than {MAX_DIGITS} digits")
        return int(value)
    if isinstance(value, str | os.PathLike):
        return _check_text(str(value))
    raise InvalidDocumentError(f"got {shown(value)}, a {type(value).__name__}; must be text, a number, a boolean, None or a list")
