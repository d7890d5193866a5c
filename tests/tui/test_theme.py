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


def test_sixteen_colours_can_be_read() -> None:
    """Blue on black, and green, cyan, yellow on white, are too faint on many terminals."""
    themes = {item.name: item for item in theme.THEMES}
    faint = {
        "ansi-dark": {"ansi_blue", "ansi_black"},
        "ansi-light": {"ansi_green", "ansi_cyan", "ansi_yellow", "ansi_white"},
    }
    for name, avoided in faint.items():
        item = themes[name]
        tones = [item.primary, item.secondary, item.accent, item.success, item.warning, item.error]
        assert not avoided & set(tones)
        assert item.ansi
        assert len({item.primary, item.secondary, item.accent}) == 3  # the curves of one chart
    assert themes["ansi-light"].variables["block-cursor-background"] == "ansi_white"


def test_without_colours_the_terminals_palette_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert theme.fitting("ansi-dark") == "ansi-dark"
    monkeypatch.setenv("NO_COLOR", "1")
    assert theme.fitting("ansi-dark") == "ftlab-dark"
    assert theme.fitting("ansi-light") == "ftlab-light"
    assert theme.fitting("clear-dark") == "clear-dark"
