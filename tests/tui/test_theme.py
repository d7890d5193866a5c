"""Colours of a theme, and terminals with few."""

from __future__ import annotations

import pytest

from ftlab_tui import theme


def test_rich_knows_every_tone() -> None:
    shown = theme.tones({"a": "ansi_bright_red", "b": "#010203", "c": "auto 87%"})
    assert shown == {"a": "bright_red", "b": "#010203"}


@pytest.mark.parametrize(
    ("term", "colour", "few"),
    [("linux", "", True), ("xterm-256color", "", False), ("xterm", "truecolor", False)],
)
def test_few_colours(term: str, colour: str, few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLORTERM", colour)
    assert theme.few_colours() is few
