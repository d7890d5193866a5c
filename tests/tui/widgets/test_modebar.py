"""The line of modes."""

from __future__ import annotations

from textual.app import App, ComposeResult

from ftlab_tui.modes import MODES
from ftlab_tui.widgets.modebar import ModeBar


class Bare(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.went: list[str] = []

    def compose(self) -> ComposeResult:
        yield ModeBar("new")

    def action_mode(self, name: str) -> None:
        self.went.append(name)


async def test_the_mode_in_front_is_marked_and_there_is_room_for_a_few_words() -> None:
    app = Bare()
    async with app.run_test(size=(100, 5)) as pilot:
        bar = app.query_one(ModeBar)
        bar.about = "a-run · host"
        await pilot.pause()
        line = bar.render()
        marked = [
            line.plain[s.start : s.end].strip() for s in line.spans if "reverse" in str(s.style)
        ]
        assert marked == ["2 New"]
        assert line.plain.endswith("a-run · host")
        assert line.cell_len <= 100
        await pilot.resize_terminal(48, 5)
        await pilot.pause()
        line = bar.render()
        assert all(f"{mode.key} {mode.title}" in line.plain for mode in MODES)
        assert "host" not in line.plain


async def test_a_click_goes_to_the_mode_under_the_mouse() -> None:
    app = Bare()
    async with app.run_test(size=(100, 5)) as pilot:
        line = app.query_one(ModeBar).render().plain
        for mode in MODES:
            await pilot.click(ModeBar, offset=(line.index(mode.title), 0))
        await pilot.click(ModeBar, offset=(90, 0))
        await pilot.pause()
        assert app.went == [mode.name for mode in MODES]
