"""The app's own themes: dark, light, two that are safe for colour-blind eyes, and 16 colours.

`clear-dark` and `clear-light` use blue against orange (Okabe and Ito's palette), never red against
green. The 16-colour ones (`ansi-dark`, `ansi-light`) take the terminal's own palette: Textual's own
without blue on black and without green and cyan on white, which many terminals show too faintly to
be read. Every state is also said by a word or a sign, so that no colour carries a meaning alone.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from textual.theme import BUILTIN_THEMES, Theme

DEFAULT = "ftlab-dark"
ANSI = "ansi-dark"


def _ansi(name: str, variables: Mapping[str, str] | None = None, **colours: str) -> Theme:
    """Textual's theme of that name with other colours out of the 16."""
    own = BUILTIN_THEMES[name]
    changed: dict[str, Any] = {**colours, "variables": {**own.variables, **(variables or {})}}
    return dataclasses.replace(own, **changed)


THEMES = (
    Theme(
        name="ftlab-dark",
        primary="#5aa9e6",
        secondary="#7fc8a9",
        accent="#f2b263",
        warning="#f2b263",
        error="#ef6f6c",
        success="#7fc8a9",
        foreground="#dfe3ea",
        background="#14171c",
        surface="#1b1f26",
        panel="#252a33",
    ),
    Theme(
        name="ftlab-light",
        primary="#1d5f9e",
        secondary="#1f7a54",
        accent="#9a5b00",
        warning="#9a5b00",
        error="#b3261e",
        success="#1f7a54",
        foreground="#1c2128",
        background="#f6f7f9",
        surface="#ffffff",
        panel="#e6e9ee",
        dark=False,
    ),
    Theme(
        name="clear-dark",
        primary="#56b4e9",
        secondary="#0072b2",
        accent="#e69f00",
        warning="#f0e442",
        error="#d55e00",
        success="#56b4e9",
        foreground="#e8e8e8",
        background="#101214",
        surface="#181b1f",
        panel="#23272d",
    ),
    Theme(
        name="clear-light",
        primary="#0072b2",
        secondary="#005a8c",
        accent="#a35a00",
        warning="#8a6d00",
        error="#b04a00",
        success="#0072b2",
        foreground="#17191c",
        background="#fafafa",
        surface="#ffffff",
        panel="#e8eaed",
        dark=False,
    ),
    _ansi(
        "ansi-dark", primary="ansi_cyan", secondary="ansi_bright_blue", accent="ansi_yellow",
        error="ansi_bright_red",
    ),
    _ansi(
        "ansi-light", {"block-cursor-background": "ansi_white",
                       "block-cursor-foreground": "ansi_black"},
        secondary="ansi_bright_black", success="ansi_blue",
    ),
)  # fmt: skip


def few_colours() -> bool:
    """Whether the terminal says that it has 16 colours or fewer."""
    if os.environ.get("COLORTERM") in ("truecolor", "24bit"):
        return False
    return "256color" not in os.environ.get("TERM", "") and os.environ.get("TERM", "") in (
        "linux", "ansi", "vt100", "vt220", "xterm", "screen",
    )  # fmt: skip


def fitting(name: str) -> str:
    """The theme itself; under NO_COLOR one of our own for what takes the terminal's palette.

    Textual turns every colour into a grey then, and one that only the terminal knows into black:
    black on black.
    """
    if not os.environ.get("NO_COLOR") or "ansi" not in name:
        return name
    return "ftlab-light" if "light" in name else DEFAULT


def tones(variables: Mapping[str, str]) -> dict[str, str]:
    """A theme's colours as Rich knows them: `ansi_bright_red` is `bright_red` there.

    Args:
        variables: the app's `theme_variables`.
    """
    return {
        name: value.removeprefix("ansi_")
        for name, value in variables.items()
        if value.startswith(("#", "ansi_"))
    }
