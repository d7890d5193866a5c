"""Which shape the rows of a data set have: recognised by their columns, or mapped by `columns:`.

A format is a name of the setting `data.format`; a shape is one set of columns that it accepts.
`canonical` turns rows of a recognised format into what is tokenised.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftlab.errors import DataError, Problem
from ftlab.schema import DataSection

ROLES = {
    "instruction": "what is asked (Alpaca)",
    "input": "material for the instruction, may be empty (Alpaca)",
    "output": "the answer (Alpaca)",
    "messages": "list of {role, content}",
    "conversations": "list of {from, value} (ShareGPT)",
    "prompt": "text, or list of messages, before the answer",
    "completion": "the answer: text, or list of messages",
    "text": "one whole text",
    "chosen": "the better answer, or the whole dialogue with it",
    "rejected": "the worse answer, or the whole dialogue with it",
    "label": "true where the answer is good (KTO)",
    "system": "system message put before the rest",
    "tools": "list of tool definitions, or its JSON text",
}
_LIKELY = {  # what people call a role; used for the example in an error only
    "prompt": ("question", "query", "problem", "input_text", "source", "context", "instruction"),
    "completion": ("answer", "response", "solution", "output", "target", "reply", "summary"),
    "text": ("content", "document", "body", "article"),
    "messages": ("dialogue", "dialog", "conversation", "turns", "chat"),
    "chosen": ("preferred", "better", "accepted", "positive"),
    "rejected": ("dispreferred", "worse", "refused", "negative"),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A set of columns that a format accepts."""

    format: str
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()


SHAPES = (
    Shape("kto", ("messages", "label"), ("tools", "system")),
    Shape("kto", ("conversations", "label"), ("tools", "system")),
    Shape("kto", ("prompt", "completion", "label"), ("tools", "system")),
    Shape("kto", ("instruction", "output", "label"), ("input", "system")),
    Shape("messages", ("messages",), ("tools", "system")),
    Shape("sharegpt", ("conversations",), ("tools", "system")),
    Shape("prompt_completion", ("prompt", "completion"), ("tools", "system")),
    Shape("alpaca", ("instruction", "output"), ("input", "system")),
    Shape("text", ("text",)),
    Shape("preference", ("prompt", "chosen", "rejected"), ("tools", "system")),
    Shape("preference", ("conversations", "chosen", "rejected"), ("tools", "system")),
    Shape("preference", ("instruction", "chosen", "rejected"), ("input", "system")),
    Shape("preference", ("messages", "chosen", "rejected"), ("tools", "system")),
    Shape("preference", ("chosen", "rejected"), ("tools", "system")),
)


@dataclass(frozen=True, slots=True)
class Format:
    """A recognised format.

    Attributes:
        name: value of `data.format`.
        reason: why, for people.
        map: role -> column, of the roles that are read.
    """

    name: str
    reason: str
    map: Mapping[str, str] = field(default_factory=dict)

    def view(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row by role; missing columns are None."""
        return {role: row.get(column) for role, column in self.map.items()}


def detect(
    columns: Sequence[str],
    first_rows: Sequence[Mapping[str, Any] | None],
    section: DataSection,
    method: str = "sft",
) -> Format:
    """Recognise the format of a data set.

    Args:
        columns: column names.
        first_rows: some rows, to tell lists from texts; None for a row that is null.
        section: `format` and `columns` of it decide where they are given.
        method: "sft" or "dpo": what the rows are for.

    Raises:
        DataError: nothing fits (columns found, what each format needs, an example), a mapped
            column or role does not exist, or the format cannot be used by the method.
    """
    roles = _roles(columns, section)
    rows = [row for row in first_rows if row is not None]
    wanted = [
        shape
        for shape in SHAPES
        if section.format in ("auto", shape.format) and set(section.columns) <= _known(shape)
    ]
    fitting = [
        shape
        for shape in wanted
        if set(shape.needs) <= set(roles) and _plausible(shape, roles, rows)
    ]
    if section.format == "auto":
        fitting = [s for s in fitting if s.format != "kto" or _labelled(roles["label"], rows)]
    # The method's own formats come first: rows may have both an output and a chosen answer.
    fitting.sort(key=lambda shape: (shape.format == "preference") != (method == "dpo"))
    if not fitting:
        raise _undetected(columns, rows, roles, section, method)
    shape = fitting[0]
    used = {role: roles[role] for role in (*shape.needs, *shape.may) if role in roles}
    _check_method(shape, method)
    return Format(shape.format, _reason(shape, used, columns, section), used)


def _roles(columns: Sequence[str], section: DataSection) -> dict[str, str]:
    """Role -> column: what `columns:` says, else columns named like a role."""
    problems = []
    for role, column in section.columns.items():
        if role not in ROLES:
            problems.append(
                Problem(
                    f"data.columns.{role}",
                    f"{role!r} is no role; the roles are {', '.join(ROLES)}",
                    _meant(role, list(ROLES)),
                )
            )
        if column not in columns:
            problems.append(
                Problem(
                    f"data.columns.{role}",
                    f"there is no column {column!r}; the columns are {', '.join(columns)}",
                    _meant(column, columns),
                )
            )
    if problems:
        raise DataError(problems)
    taken = set(section.columns.values())
    named = {name: name for name in columns if name in ROLES and name not in taken}
    return {**named, **section.columns}


def _known(shape: Shape) -> set[str]:
    return {*shape.needs, *shape.may}


def _plausible(shape: Shape, roles: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the values could be what the shape needs: lists of messages are lists."""
    for role in ("messages", "conversations"):
        values = [row.get(roles[role]) for row in rows] if role in shape.needs else []
        if any(value is not None for value in values) and not any(
            isinstance(value, list) for value in values
        ):
            return False
    return True


def _labelled(column: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a column called label is KTO's: true and false, not the number of a class."""
    values = [row.get(column) for row in rows if row.get(column) is not None]
    return bool(values) and all(
        isinstance(value, bool) or str(value).lower() in ("true", "false") for value in values
    )


def _check_method(shape: Shape, method: str) -> None:
    if method == "dpo" and shape.format == "kto":
        raise _problem(
            "method.kind",
            "dpo learns from pairs, but KTO rows have one answer and a label",
            "use method.kind sft, which trains on the rows labelled true, or give pairs with "
            "chosen and rejected",
        )
    if method == "dpo" and shape.format != "preference":
        raise _problem(
            "method.kind",
            f"dpo learns from pairs, but the columns {', '.join(shape.needs)} are {shape.format}: "
            "one answer each",
            "use method.kind sft, or map two answers: data.columns {chosen: ..., rejected: ...}",
        )
    if method == "sft" and shape.format == "preference":
        raise _problem(
            "method.kind",
            f"sft learns from one answer, but the columns {', '.join(shape.needs)} are pairs",
            "use method.kind dpo; to imitate the better answers, map them with data.format "
            "prompt_completion and data.columns {prompt: prompt, completion: chosen}",
        )


def _reason(
    shape: Shape, used: Mapping[str, str], columns: Sequence[str], section: DataSection
) -> str:
    found = ", ".join(
        column if column == role else f"{column} as {role}" for role, column in used.items()
    )
    if section.format != "auto":
        why = f"data.format says {shape.format}"
    else:
        why = f"mapped by data.columns: {shape.format}" if section.columns else shape.format
    rest = [name for name in columns if name not in used.values()]
    unused = f"; not used: {', '.join(rest)}" if rest else ""
    return f"{why}: columns {found}{unused}"


def _undetected(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    roles: Mapping[str, str],
    section: DataSection,
    method: str,
) -> DataError:
    """The error for rows of no known shape."""
    asked = "" if section.format == "auto" else f" of data.format {section.format}"
    lines = [
        f"the columns {', '.join(columns) or '(none)'} have no shape{asked} that is known"
        + _why_not(roles, rows, section)
    ]
    shapes = [
        shape
        for shape in SHAPES
        if section.format in ("auto", shape.format)
        and (shape.format == "preference") == (method == "dpo")
    ] or [shape for shape in SHAPES if shape.format == section.format]
    lines += [f"  {shape.format} needs {', '.join(shape.needs)}" for shape in shapes]
    lines.append(f"  say which column is what, such as  columns: {_example(columns, method)}")
    return _problem("data.columns", "\n".join(lines))


def _why_not(
    roles: Mapping[str, str], rows: Sequence[Mapping[str, Any]], section: DataSection
) -> str:
    for role in ("messages", "conversations"):
        if role in roles and any(isinstance(row.get(roles[role]), str) for row in rows):
            return f"; column {roles[role]} holds text, but {role} are lists of objects"
    if section.columns:
        return f" with {', '.join(section.columns)} mapped; a format must use every mapped role"
    return ""


def _example(columns: Sequence[str], method: str) -> str:
    """A `columns:` mapping that could be meant."""
    wanted = ("prompt", "chosen", "rejected") if method == "dpo" else ("prompt", "completion")
    if method == "sft" and len(columns) == 1:
        return f"{{text: {columns[0]}}}"
    lower = {name.lower(): name for name in columns}
    chosen: dict[str, str] = {}
    for role in wanted:
        names = [role, *_LIKELY.get(role, ())]
        match = next((lower[name] for name in names if name in lower), None)
        chosen[role] = match if match not in chosen.values() and match else "<column>"
    return "{" + ", ".join(f"{role}: {column}" for role, column in chosen.items()) + "}"


def _meant(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]}" if near else ""


def _problem(path: str, message: str, hint: str = "") -> DataError:
    return DataError([Problem(path, message, hint)])
