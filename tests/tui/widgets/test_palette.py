"""The palette finds every mode, and takes paging keys at any size of the terminal."""

from __future__ import annotations

from pathlib import Path

from ftlab_tui.app import FtuiApp
from ftlab_tui.lab import Lab
from ftlab_tui.widgets.palette import Palette


async def test_at_any_size(tmp_path: Path) -> None:
    app = FtuiApp(Lab(tmp_path / "runs", tmp_path / "state", lambda: 1.7e9, "host"))
    async with app.run_test(size=(80, 24)) as pilot:
        for size in ((80, 24), (3, 2), (1, 1), (80, 4)):
            await pilot.resize_terminal(*size)
            await pilot.press("ctrl+p")
            await pilot.pause(0.1)
            assert isinstance(app.screen, Palette)
            await pilot.press("pagedown", "pageup", "down", "escape")
            await pilot.pause()
        for width in range(1, 16):  # the names of themes have no blank to break at
            await pilot.resize_terminal(width, 24)
            app.search_themes()
            await pilot.pause(0.05)
            await pilot.press("escape")
        await pilot.resize_terminal(80, 24)
        await pilot.press("t")
        await pilot.pause(0.2)
        assert isinstance(app.screen, Palette)
        await pilot.press(*"clear-light")
        await pilot.pause(0.3)
        await pilot.press("enter")
        await pilot.pause(0.2)
        assert app.theme == "clear-light"
