"""The JSON Schema (draft 2020-12) of a config, for editors that complete and check while typing."""

from __future__ import annotations

import typing
from typing import Any, Literal

from ftlab import values
from ftlab.schema import sections, settings
from ftlab.setting import Setting

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SHORTHAND = {"model": "name", "data": "source"}
NAMES: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def schema() -> dict[str, Any]:
    """The whole schema as plain JSON values."""
    return {
        "$schema": DIALECT,
        "title": "ftlab run config",
        "description": "What to fine-tune, on what, and how. Every key is optional but model.name "
        "and data.source.",
        "type": "object",
        "properties": {name: _section(name) for name in sections()},
        "required": sorted({s.section for s in settings() if s.required}, reverse=True),
        "additionalProperties": False,
    }


def _section(name: str) -> dict[str, Any]:
    own = [setting for setting in settings() if setting.section == name]
    body: dict[str, Any] = {
        "type": "object",
        "properties": {setting.name: _setting(setting) for setting in own},
        "additionalProperties": False,
    }
    required = [setting.name for setting in own if setting.required]
    if required:
        body["required"] = required
    description = (sections()[name].__doc__ or "").strip()
    if name not in SHORTHAND:
        return {"description": description, **body}
    short = {
        "type": "string",
        "minLength": 1,
        "description": f"Short for {{{SHORTHAND[name]}: ...}}.",
    }
    return {"description": description, "anyOf": [body, short]}


def _setting(setting: Setting) -> dict[str, Any]:
    alternatives = [_member(member, setting) for member in setting.members]
    body = alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}
    result = {
        "description": " ".join(part for part in (setting.help, setting.raising) if part),
        **body,
    }
    if not setting.required:
        result["default"] = setting.default
    examples = list(setting.examples)
    if examples:
        result["examples"] = examples
    if setting.unit:
        result["x-unit"] = setting.unit
    result["x-simple"] = setting.simple
    return result


def _member(member: Any, setting: Setting) -> dict[str, Any]:
    origin = typing.get_origin(member)
    if origin is Literal:
        return {"enum": list(typing.get_args(member))}
    if member is type(None):
        return {"type": "null"}
    if origin is list:
        return {"type": "array", "items": {"type": NAMES[typing.get_args(member)[0]]}}
    if origin is dict:
        item = typing.get_args(member)[1]
        extra = {"additionalProperties": {"type": NAMES[item]}} if item in NAMES else {}
        return {"type": "object", **extra}
    if setting.path == "memory.budget":
        return {"type": "string", "pattern": f"^(auto|{values.SIZE_PATTERN})$"}
    if member is str:
        return {"type": "string", "minLength": 1}
    return {"type": NAMES[member], **(_range(setting) if member is not bool else {})}


def _range(setting: Setting) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if setting.minimum is not None:
        key = "exclusiveMinimum" if setting.exclusive_minimum else "minimum"
        result[key] = setting.minimum
    if setting.maximum is not None:
        result["maximum"] = setting.maximum
    return result
