"""The five modes."""

from __future__ import annotations

import sys

import pytest

from ftlab_tui import modes
from ftlab_tui.widgets.modescreen import ModeScreen


@pytest.mark.parametrize("item", modes.MODES, ids=lambda item: item.name)
def test_every_mode_makes_the_screen_of_its_name(item: modes.Mode) -> None:
    screen = modes.loaders()[item.name]()
    assert isinstance(screen, ModeScreen)
    assert item.name == screen.MODE
    assert modes.mode(item.name) is item
    assert item.screen.partition(":")[0] in sys.modules


def test_keys_count_from_one_and_are_shown_in_that_order() -> None:
    assert [item.key for item in modes.MODES] == ["1", "2", "3", "4", "5"]
    assert modes.MODES[0].name == "home"
    with pytest.raises(StopIteration):
        modes.mode("none")
