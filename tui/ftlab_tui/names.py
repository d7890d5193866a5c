"""Paths as screens show them."""

from __future__ import annotations

from pathlib import Path


def short(path: Path) -> str:
    """A path with ~ for the home folder."""
    home, text = str(Path.home()), str(path)
    return "~" + text[len(home) :] if text.startswith(home + "/") else text
