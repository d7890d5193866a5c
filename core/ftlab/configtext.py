"""Write a config: the YAML of a RunConfig, and the commented file that `ftrun init` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from ftlab import rules, values, yamltext
from ftlab.schema import RunConfig, sections, settings
from ftlab.setting import Setting

WIDTH = 98
MISREAD = frozenset({"on", "off", "yes", "no", "y", "n"})  # booleans to readers of YAML 1.1


def dump(config: RunConfig) -> str:
    """The config as YAML, every setting that has an effect present, in declaration order.

    `config.parse(dump(c)) == c` for every config that parses.
    """
    silent = rules.inactive(config)
    lines: list[str] = []
    for section in sections():
        lines.append(f"{section}:")
        for setting in settings():
            if setting.section == section and setting.path not in silent:
                value = rules.value_of(config, setting.path)
                lines.append(f"  {setting.name}: {flow(value)}")
        if lines[-1] == f"{section}:":
            lines[-1] = f"{section}: {{}}"
    return "\n".join(lines) + "\n"


def commented(chosen: Mapping[str, Mapping[str, Any]], title: str) -> str:
    """A config file with every setting: the chosen ones active, the others as comments.

    Args:
        chosen: section -> setting -> value, such as a preset.
        title: first comment of the file.
    """
    lines = _comment(title, "")
    lines += _comment("Lines that begin with # are the defaults; delete the # to change one.", "")
    for section, cls in sections().items():
        active = chosen.get(section, {})
        lines += ["", *_comment((cls.__doc__ or "").strip(), ""), f"{section}:"]
        for setting in settings():
            if setting.section == section:
                lines += _setting_lines(setting, active)
    return "\n".join(lines) + "\n"


def flow(value: Any) -> str:
    """A value on one line of YAML that `yamltext.read` gives back unchanged."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, str):
        return _text(value)
    return repr(value)


def _text(value: str) -> str:
    """Text bare where YAML reads it back as the same text, else in double quotes."""
    bare = value.isascii() and all(c.isalnum() or c in "._-/+" for c in value)
    safe = value[:1] not in ("", "-") and value.lower() not in MISREAD
    if bare and safe and yamltext.scalar(value) == value:
        return value
    escaped = "".join(_escape(c) for c in value)
    return f'"{escaped}"'


def _escape(c: str) -> str:
    if c in '"\\':
        return "\\" + c
    if c.isprintable():
        return c
    return f"\\U{ord(c):08X}"


def _setting_lines(setting: Setting, active: Mapping[str, Any]) -> list[str]:
    unit = f" Unit: {setting.unit}." if setting.unit else ""
    help_text = " ".join(part for part in (setting.help, setting.raising) if part)
    lines = _comment(f"{help_text}{unit}", "  ")
    lines += _comment(f"Allowed: {values.allowed(setting)}.", "  ")
    if setting.name in active:
        return [*lines, f"  {setting.name}: {flow(active[setting.name])}"]
    return [*lines, f"  # {setting.name}: {flow(setting.default)}"]


def _comment(text: str, indent: str) -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(
        text, WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False
    )
