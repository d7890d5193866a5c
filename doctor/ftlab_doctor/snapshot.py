"""Snapshots as files: writing one, reading one that somebody else wrote, and saying what is wrong with it."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

SCHEMA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "snapshot.schema.json")
FORMAT, VERSION = "ftdoctor-snapshot", 1
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float), "null": type(None),
}  # fmt: skip


class BadSnapshot(ValueError):
    """The file is no snapshot, or not of a version that is understood."""


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The JSON Schema of the format."""
    with open(SCHEMA, encoding="utf-8") as file:
        value: dict[str, Any] = json.load(file)
    return value


def read(text: str) -> dict[str, Any]:
    """The facts in a snapshot.

    Raises:
        BadSnapshot: no JSON, another format or version, or facts of the wrong shape; all are told.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadSnapshot(f"not JSON: {error}") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise BadSnapshot(f'not a snapshot: "format" must be "{FORMAT}"')
    if value.get("version") != VERSION:
        raise BadSnapshot(
            f"version {value.get('version')!r} is not understood; this doctor reads {VERSION}"
        )
    problems = check(value, schema(), "")
    if problems:
        raise BadSnapshot("; ".join(problems[:10]))
    return value


def check(value: Any, rule: dict[str, Any], path: str) -> list[str]:
    """What in `value` does not follow the schema: the part of JSON Schema that ours uses."""
    if "$ref" in rule:
        rule = schema()["$defs"][rule["$ref"].rsplit("/", 1)[1]]
    kinds = rule.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return [f"{path or '/'}: {type(value).__name__} instead of {' or '.join(kinds)}"]
    if "enum" in rule and value not in rule["enum"]:
        return [f"{path}: {value!r} is not one of {rule['enum']}"]
    problems: list[str] = []
    if isinstance(value, dict):
        problems += [
            f"{path}/{name}: missing" for name in rule.get("required", []) if name not in value
        ]
        named, others = rule.get("properties", {}), rule.get("additionalProperties")
        for name, item in value.items():
            inner = named.get(name, others if isinstance(others, dict) else None)
            if inner is not None:
                problems += check(item, inner, f"{path}/{name}")
    elif isinstance(value, list) and isinstance(rule.get("items"), dict):
        for i, item in enumerate(value):
            problems += check(item, rule["items"], f"{path}/{i}")
    return problems


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def write(facts: dict[str, Any]) -> str:
    """The snapshot as text, stable from one call to the next."""
    return json.dumps(facts, indent=1, ensure_ascii=False, sort_keys=False) + "\n"
