"""The theme's colours as styles for rich text, in true colour, 256 or the terminal's own 16."""

from __future__ import annotations

from collections.abc import Mapping

from rich.style import Style
from textual.app import App
from textual.color import Color, ColorParseError

NAMES = ("primary", "secondary", "accent", "success", "warning", "error")


def styles(app: App[object]) -> dict[str, Style]:
    """Style by name of meaning: those of the theme, and "muted"."""
    variables: Mapping[str, str] = app.theme_variables
    made = {name: _style(variables.get(name, "")) for name in NAMES}
    return {**made, "muted": Style(dim=True)}


def _style(value: str) -> Style:
    try:
        return Style(color=Color.parse(value).rich_color)
    except ColorParseError:
        return Style()
