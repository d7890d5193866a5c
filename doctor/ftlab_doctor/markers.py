"""Requirements as wheels write them: name, extras, versions and the marker after ";"."""

from __future__ import annotations

import re
from typing import NamedTuple

from ftlab_doctor.versions import key, satisfies

_REQUIREMENT = re.compile(
    r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[([^\]]*)\])?\s*(\([^)]*\)|@[^;]*|[^;]*)?(?:;(.*))?\Z",
    re.DOTALL,
)
_TOKEN = re.compile(r"""\s*(\(|\)|and\b|or\b|not\s+in\b|in\b|[<>=!~]=?=?|'[^']*'|"[^"]*"|[\w.]+)""")
Unread = ValueError


class Requirement(NamedTuple):
    """One line of Requires-Dist."""

    name: str  # normalised
    specifier: str
    marker: str


def normal(name: str) -> str:
    """The name of a package as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse(line: str) -> Requirement | None:
    """The requirement in `line`; None if it cannot be read."""
    match = _REQUIREMENT.match(line)
    if not match:
        return None
    specifier = (match[3] or "").strip()
    if specifier.startswith("@"):
        specifier = ""
    return Requirement(normal(match[1]), specifier.strip("() "), (match[4] or "").strip())


def applies(marker: str, environment: dict[str, str]) -> bool | None:
    """Whether the marker holds here (no extra is asked for); None if it cannot be read."""
    if not marker:
        return True
    tokens, position = [], 0
    while position < len(marker.rstrip()):
        match = _TOKEN.match(marker, position)
        if not match:
            return None
        tokens.append(re.sub(r"\s+", " ", match[1]))
        position = match.end()
    try:
        value, rest = _either(tokens, {"extra": "", **environment})
    except (Unread, IndexError):
        return None
    return value if not rest else None


def _either(tokens: list[str], environment: dict[str, str]) -> tuple[bool, list[str]]:
    value, tokens = _both(tokens, environment)
    while tokens[:1] == ["or"]:
        other, tokens = _both(tokens[1:], environment)
        value = value or other
    return value, tokens


def _both(tokens: list[str], environment: dict[str, str]) -> tuple[bool, list[str]]:
    value, tokens = _one(tokens, environment)
    while tokens[:1] == ["and"]:
        other, tokens = _one(tokens[1:], environment)
        value = value and other
    return value, tokens


def _one(tokens: list[str], environment: dict[str, str]) -> tuple[bool, list[str]]:
    if tokens[0] == "(":
        value, tokens = _either(tokens[1:], environment)
        if tokens[0] != ")":
            raise Unread(tokens[0])
        return value, tokens[1:]
    left, operator, right = tokens[:3]
    a, b = (_value(token, environment) for token in (left, right))
    return _compare(a, operator, b), tokens[3:]


def _value(token: str, environment: dict[str, str]) -> str:
    if token[0] in "'\"":
        return token[1:-1]
    if token not in environment:
        raise Unread(token)
    return environment[token]


def _compare(a: str, operator: str, b: str) -> bool:
    if operator in ("in", "not in"):
        return (a in b) == (operator == "in")
    if key(a) is not None and key(b.removesuffix(".*")) is not None:
        return bool(satisfies(a, operator + b))
    simple = {"==": a == b, "!=": a != b, ">": a > b, "<": a < b, ">=": a >= b, "<=": a <= b}
    return simple[operator]
