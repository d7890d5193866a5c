"""The filter line."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.widgets import Button, Input

from ftlab_tui.widgets.filterbar import FilterBar


class Bare(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def compose(self) -> ComposeResult:
        yield Button("list")
        yield FilterBar()

    def on_filter_bar_changed(self, event: FilterBar.Changed) -> None:
        self.heard.append(event.text)


async def test_each_key_narrows_and_esc_shows_all() -> None:
    app = Bare()
    async with app.run_test(size=(60, 10)) as pilot:
        bar = app.query_one(FilterBar)
        assert not bar.display
        bar.open()
        await pilot.press("a", "b")
        await pilot.pause()
        assert app.heard == ["a", "ab"]
        assert bar.text == "ab"
        await pilot.press("escape")
        await pilot.pause()
        assert app.heard[-1] == ""
        assert not bar.display
        assert isinstance(app.focused, Button)


async def test_enter_keeps_a_filter_and_closes_an_empty_line() -> None:
    app = Bare()
    async with app.run_test(size=(60, 10)) as pilot:
        bar = app.query_one(FilterBar)
        bar.open()
        await pilot.press("x", "enter")
        await pilot.pause()
        assert bar.display
        assert bar.text == "x"
        assert not isinstance(app.focused, Input)
        bar.open()
        await pilot.press("backspace", "enter")
        await pilot.pause()
        assert not bar.display
        assert app.heard == ["x", ""]
