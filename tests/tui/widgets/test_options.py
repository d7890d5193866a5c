"""Paging keys in a terminal where a list has no line to show."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.widgets.option_list import Option

from ftlab_tui.widgets.options import Options


class Bare(App[None]):
    def compose(self) -> ComposeResult:
        yield Options(*(Option(f"line {n}") for n in range(50)))


async def test_paging_without_a_line_is_nothing() -> None:
    app = Bare()
    async with app.run_test(size=(40, 10)) as pilot:
        listed = app.query_one(Options)
        listed.focus()
        await pilot.press("home", "pagedown")
        before = listed.highlighted
        assert before
        listed.styles.height = 2  # all of it border
        await pilot.pause()
        await pilot.press("pagedown", "pageup", "down")
        assert listed.highlighted == before + 1
