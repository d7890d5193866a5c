"""Presets: small configs to start from, one YAML file each beside this module.

The first comment line of a file is its description. Every preset names a model and a data file
that a person replaces.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from ftlab import yamltext
from ftlab.errors import ConfigError, Problem
from ftlab.values import nearest

ORDER = ("quick", "standard", "careful", "dpo", "qlora", "full")


def names() -> tuple[str, ...]:
    """Names of all presets, simplest first."""
    return ORDER


def text(name: str) -> str:
    """The YAML text of a preset. Raises ConfigError for a name that does not exist."""
    if name not in ORDER:
        close = nearest(name, ORDER)
        hint = f"did you mean {close}?" if close else f"presets are {', '.join(ORDER)}"
        raise ConfigError([Problem("", f"there is no preset {name!r}", hint)])
    return (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")


def description(name: str) -> str:
    """One sentence that says what a preset is for."""
    return text(name).splitlines()[0].removeprefix("#").strip()


def mapping(name: str) -> dict[str, dict[str, Any]]:
    """The settings of a preset, section -> setting -> value."""
    value: dict[str, dict[str, Any]] = yamltext.read(text(name), f"preset {name}").value
    return value
