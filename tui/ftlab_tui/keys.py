"""The keys that work everywhere, each with an id that a person's keys file can remap.

`keys.json` in the state folder maps an id to keys: {"back": "escape,h"}.
"""

from __future__ import annotations

import json
from pathlib import Path

from textual.binding import Binding, BindingType

from ftlab_tui.modes import MODES

GLOBAL: list[BindingType] = [
    *(
        Binding(mode.key, f"mode('{mode.name}')", mode.title, show=False, id=mode.name)
        for mode in MODES
    ),
    Binding("escape", "back", "Back", id="back", show=False),
    Binding("question_mark,f1", "help", "Help", id="help", key_display="?"),
    Binding("slash", "filter", "Filter", id="filter", key_display="/"),
    Binding("y", "copy", "Copy", id="copy"),
    Binding("e", "edit", "Edit", id="edit"),
    Binding("t", "change_theme", "Theme", id="theme", show=False),
    Binding("f", "full", "Full", id="full", show=False),
    Binding("ctrl+q", "quit", "Quit", id="quit", priority=True),
]


def ids() -> tuple[str, ...]:
    """Every id that a keys file may name."""
    return tuple(binding.id for binding in GLOBAL if isinstance(binding, Binding) and binding.id)


def keymap(state: Path) -> tuple[dict[str, str], str]:
    """A person's keys, and what is wrong with their file ("" when nothing)."""
    path = state / "keys.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError) as error:
        return {}, f"{path} cannot be read: {error}"
    if not isinstance(value, dict):
        return {}, f"{path} must be a mapping of id to keys"
    unknown = sorted(set(map(str, value)) - set(ids()))
    known = {str(name): str(keys) for name, keys in value.items() if name in ids()}
    return known, f"{path}: no such key id: {', '.join(unknown)}" if unknown else ""
