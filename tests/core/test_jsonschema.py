"""The JSON Schema says what the parser does."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ftlab import config, jsonschema, presets, values
from ftlab.errors import ConfigError
from ftlab.schema import settings

SCHEMA = jsonschema.schema()


def property_of(path: str) -> dict[str, Any]:
    section, name = path.split(".")
    body = SCHEMA["properties"][section]
    body = body["anyOf"][0] if "anyOf" in body else body
    result: dict[str, Any] = body["properties"][name]
    return result


def allows(schema: dict[str, Any], value: Any) -> bool:
    """Just enough of draft 2020-12 for the words that the generator uses."""
    if "anyOf" in schema:
        return any(allows(member, value) for member in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kinds: dict[str, Any] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
        "array": list,
        "object": dict,
    }
    kind = schema["type"]
    if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    if kind in ("integer", "number"):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        return low <= value <= high and value > schema.get("exclusiveMinimum", value - 1)
    if kind == "string":
        return len(value) >= schema.get("minLength", 0) and bool(
            re.search(schema.get("pattern", ""), value)
        )
    if kind == "array":
        return all(allows(schema["items"], item) for item in value)
    return kind != "object" or _allows_object(schema, value)


def _allows_object(schema: dict[str, Any], value: dict[str, Any]) -> bool:
    known, extra = schema.get("properties", {}), schema.get("additionalProperties", True)
    if any(name not in value for name in schema.get("required", [])):
        return False
    for name, item in value.items():
        if name in known:
            if not allows(known[name], item):
                return False
        elif extra is False or (isinstance(extra, dict) and not allows(extra, item)):
            return False
    return True


def test_it_is_plain_json_and_names_every_setting() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    described = [property_of(setting.path)["description"] for setting in settings()]
    assert len(described) == len(settings())
    assert all(described)


def test_ranges_units_defaults_and_examples() -> None:
    assert property_of("adapter.r")["minimum"] == 1
    assert property_of("adapter.r")["maximum"] == 1024
    assert property_of("adapter.lora_alpha")["exclusiveMinimum"] == 0
    assert property_of("model.max_length")["x-unit"] == "tokens"
    assert property_of("model.precision")["default"] == "auto"
    assert "default" not in property_of("model.name")
    assert property_of("data.columns")["examples"][0]["prompt"] == "question"


@pytest.mark.parametrize("name", presets.names())
def test_presets_satisfy_it(name: str) -> None:
    assert allows(SCHEMA, presets.mapping(name))


def test_shorthand_satisfies_it_and_wrong_shapes_do_not() -> None:
    assert allows(SCHEMA, {"model": "m", "data": "d"})
    assert not allows(SCHEMA, {"model": "m"})
    assert not allows(SCHEMA, {"model": "m", "data": "d", "foo": 1})
    assert not allows(SCHEMA, {"model": {"name": "m", "precision": "nf5"}, "data": "d"})


PROBES: list[Any] = [
    None, True, False, 0, 1, 3, 10**9, -1, 0.5, 1.5, "", "auto", "none", "adamw", "12GiB", "0GiB",
    "abc", [], ["a"], [1], {}, {"a": "b"}, "lora", "sft", "off",
]  # fmt: skip
LOOSER = {  # what a person may also write, which an editor flags: YAML 1.1 words, sizes of zero
    ("memory.checkpointing", True), ("memory.checkpointing", False), ("memory.budget", "0GiB"),
}  # fmt: skip


def test_schema_and_parser_agree_on_every_setting_and_probe() -> None:
    compared = 0
    for setting in settings():
        for probe in PROBES:
            if isinstance(probe, (str, bool)) and (setting.path, probe) in LOOSER:
                continue
            if probe == "off" and bool in setting.members:
                continue  # off is accepted for false
            parsed = values.check(setting, probe)[1] is None
            assert allows(property_of(setting.path), probe) == parsed, (setting.path, probe)
            compared += 1
    assert compared > 1200


def test_the_parser_refuses_what_the_schema_refuses_at_the_top() -> None:
    with pytest.raises(ConfigError):
        config.from_mapping({"model": "m", "data": "d", "foo": 1})
