"""Strict YAML reading: YAML 1.2 scalars, no duplicate keys, anchors or tags, errors with places.

PyYAML speaks YAML 1.1, where `2e-4` is a string, `on` is true and `1:30` is 90. Here `2e-4` is a
number, `true` and `false` are the only booleans, and everything else that is not a number or null
is text. PyYAML is imported on first use, so that `--help` stays light.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ftlab.errors import ConfigError, Problem

INTEGER = re.compile(r"[-+]?[0-9][0-9_]*\Z")
HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+\Z")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
NULLS = frozenset({"", "~", "null", "Null", "NULL"})
BOOLEANS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge", "value")
)
LIMIT_BYTES = 1 << 20  # a config is a page of text; more is the wrong file
LIMIT_DEPTH = 20


@dataclass(frozen=True, slots=True)
class Document:
    """Plain values, and the line (from 1) of every dotted key."""

    value: Any
    lines: dict[str, int]


def scalar(text: str) -> Any:
    """The value of a plain (unquoted) scalar: None, bool, int, float or str."""
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if INTEGER.match(text):
        return int(text.replace("_", ""))
    if HEXADECIMAL.match(text):
        return int(text, 16)
    if FLOAT.match(text):
        return float(text.replace("_", ""))
    if SPECIAL_FLOAT.match(text):
        return float(text.replace(".", "", 1))
    return text


def read(text: str, source: str) -> Document:
    """Read one YAML document.

    Args:
        text: the document.
        source: name for messages, such as the file's path.

    Raises:
        ConfigError: a syntax error with line and column, or every duplicate key, anchor, tag and
            key that is not text.
    """
    if len(text) > LIMIT_BYTES:
        raise ConfigError(
            f"{source} is {len(text):,} characters long; a config has at most {LIMIT_BYTES:,}, "
            "so this is probably another file"
        )
    node = _compose(text, source)
    builder = _Builder(source)
    value = builder.build(node, "") if node is not None else None
    if builder.problems:
        raise ConfigError(builder.problems)
    return Document(value, builder.lines)


def _compose(text: str, source: str) -> Any:
    import yaml

    try:
        _refuse_excess(yaml, text)
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        raise ConfigError(_reader_message(error, text, source)) from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax_problem(error, text, source)]) from None


def _refuse_excess(yaml: Any, text: str) -> None:
    """Refuse anchors, which can make a value contain itself, and depth, which takes forever."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > LIMIT_DEPTH:
            raise yaml.MarkedYAMLError(
                problem="nested too deeply for a config", problem_mark=event.start_mark
            )
        if getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(
                problem=f"anchors and aliases (&{event.anchor}, *{event.anchor}) are not allowed",
                problem_mark=event.start_mark,
            )


def _reader_message(error: Any, text: str, source: str) -> str:
    line = text.count("\n", 0, error.position) + 1
    code = error.character if isinstance(error.character, int) else ord(error.character)
    return f"{source}, line {line}: the character U+{code:04X} is not allowed in YAML"


def _syntax_problem(error: Any, text: str, source: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    problem = str(error.problem or error.context).replace("\n", " ")
    if problem == "but found another document":
        problem = "a second document begins here; a config is one document"
    if mark is None:
        return Problem("", f"{source} is not valid YAML: {problem}")
    lines = text.splitlines()
    shown = lines[mark.line] if mark.line < len(lines) else ""
    shortened = shown.strip()[:60]
    hint = f"the line is {shortened!r}" if shortened else "the text ends too early"
    if shown[: len(shown) - len(shown.lstrip())].count("\t"):
        problem, hint = "the indentation holds a tab", "YAML indents with spaces only"
    where = f"line {mark.line + 1}, column {mark.column + 1}"
    return Problem("", f"{source} is not valid YAML at {where}: {problem}", hint)


class _Builder:
    """Turns YAML nodes into plain values; collects problems and the line of every key."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.lines: dict[str, int] = {}

    def build(self, node: Any, path: str) -> Any:
        if node.tag not in TAGS:
            self._refuse(path, node, f"the tag {node.tag!r} is not allowed")
            return None
        if node.id == "mapping":
            return self._mapping(node, path)
        if node.id == "sequence":
            return [self.build(item, f"{path}[{i}]") for i, item in enumerate(node.value)]
        return scalar(node.value) if node.style is None else node.value

    def _mapping(self, node: Any, path: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.id != "scalar":
                self._refuse(path, key_node, "a key must be text")
                continue
            key = str(key_node.value)
            full = f"{path}.{key}" if path else key
            if key in result:
                first = self.lines[full]
                self._refuse(full, key_node, f"given twice, first on line {first}")
                continue
            self.lines[full] = key_node.start_mark.line + 1
            result[key] = self.build(value_node, full)
        return result

    def _refuse(self, path: str, node: Any, message: str) -> None:
        mark = node.start_mark
        self.problems.append(Problem(path, f"{message} ({self.source}, line {mark.line + 1})"))
