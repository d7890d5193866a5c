"""The help page and the keys it lists."""

from __future__ import annotations

from typing import ClassVar

import pytest
from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from ftlab_tui.widgets.help import Help, keys_of


class Page(Screen[object]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "one", "One", tooltip="the first thing"),
        Binding("b,c", "two", "Two"),
        Binding("z", "silent", show=False),
    ]


class Bare(App[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("x", "nothing", "Everywhere")]

    def get_default_screen(self) -> Screen[object]:
        return Page()


async def test_keys_of_the_screen_come_first_and_in_words() -> None:
    app = Bare()
    async with app.run_test(size=(80, 24)):
        found = keys_of(app.screen)
    listed = [item for item in found if item[0] in ("a", "b c", "x")]
    assert listed == [("a", "the first thing"), ("b c", "Two"), ("x", "Everywhere")]
    assert "z" not in [key for key, _ in found]


@pytest.mark.parametrize("key", ["escape", "question_mark", "q", "f1"])
async def test_the_page_shows_all_and_closes(key: str) -> None:
    app = Bare()
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(Help("Title", "what it [is] for", [("k", "do it")]))
        page = app.screen
        assert isinstance(page, Help)
        first, second, _ = page.query(Static)
        assert str(first.render()) == "Title"
        assert "what it [is] for" in str(second.render())
        assert "do it" in app.export_screenshot().replace("&#160;", " ")
        await pilot.press(key)
        await pilot.pause()
        assert isinstance(app.screen, Page)
