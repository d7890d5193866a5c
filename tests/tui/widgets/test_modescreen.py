"""What a mode's screen can do when it says nothing: nothing, and esc goes on."""

from __future__ import annotations

from pathlib import Path

from ftlab_tui.widgets.modescreen import ModeScreen


class Silent(ModeScreen):
    MODE = "home"


class Editing(ModeScreen):
    def edited(self) -> Path | None:
        return None


def test_a_screen_without_a_file_offers_no_edit() -> None:
    assert not Silent().can_edit()
    assert Editing().can_edit()  # it has one, only not now


def test_a_silent_screen_keeps_nothing_back() -> None:
    screen = Silent()
    assert list(screen.body()) == []
    assert screen.copied() is None
    assert screen.edited() is None
    assert screen.can_filter()
    assert not screen.go_back()
