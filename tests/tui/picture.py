"""A screen as lines of text that are the same on every machine: characters, then styles; or as SVG.

Below the characters stands a line per row: the letters of its styles with the cells of each. The
letters are explained at the end.
"""

from __future__ import annotations

import re
import string
from itertools import groupby
from typing import Any

from rich.style import Style
from textual._context import visible_screen_stack
from textual.app import App

LETTERS = string.ascii_letters + string.digits
ATTRIBUTES = ("bold", "dim", "italic", "underline", "reverse", "strike")


def take(app: App[Any]) -> str:
    """What the app shows now."""
    visible_screen_stack.set(app._background_screens)
    strips = app.screen._compositor.render_strips()
    known: dict[str, str] = {}
    rows = []
    for strip in strips:
        cells = [
            known.setdefault(words(segment.style), LETTERS[len(known) % len(LETTERS)])
            for segment in strip
            for _ in range(segment.cell_length)
        ]
        rows.append(" ".join(f"{key}{len(list(same))}" for key, same in groupby(cells)))
    assert len(known) <= len(LETTERS)
    text = [strip.text.rstrip() for strip in strips]
    legend = [f"{letter}: {style}" for style, letter in known.items()]
    return "\n".join([*text, "-- styles", *rows, "-- meaning", *legend]) + "\n"


def svg(app: App[Any]) -> str:
    """What the app shows now as a drawing that a browser opens; it asks for no font elsewhere."""
    drawn = app.export_screenshot(title="ftui", simplify=True)
    drawn = re.sub(r"@font-face \{[^}]*\}\s*", "", drawn)
    drawn = re.sub(r"<!--.*?-->", "", drawn, flags=re.S)
    name = re.search(r"terminal-\d+", drawn)
    assert name is not None
    lines = drawn.replace(name[0], "ftui").splitlines()
    return "\n".join(line.strip() for line in lines if line.strip()) + "\n"


def words(style: Style | None) -> str:
    """`#dfe3ea on #14171c bold`."""
    if style is None:
        return "plain"
    names = [name for name in ATTRIBUTES if getattr(style, name)]
    front = style.color.name if style.color else "default"
    behind = style.bgcolor.name if style.bgcolor else "default"
    return " ".join([front, "on", behind, *names])
