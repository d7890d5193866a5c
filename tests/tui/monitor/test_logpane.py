"""The end of a log that grows, narrowed and gone back in."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from waiting import until

from ftlab_tui.monitor.logpane import LogPane


class Bare(App[None]):
    def compose(self) -> ComposeResult:
        yield LogPane()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.txt"
    path.write_text("".join(f"line {n}\n" for n in range(30)) + "WARNING: [slow]\n")
    return path


async def test_it_follows_and_narrows(log: Path) -> None:
    app = Bare()
    async with app.run_test(size=(60, 12)):
        pane = app.query_one(LogPane)
        pane.update()  # without a file: nothing
        pane.open(log)
        assert len(pane.lines) == 31
        with log.open("a") as file:
            file.write("one more\nhalf a li")
        pane.update()
        assert list(pane.lines)[-1] == "one more"
        await until(lambda: pane.is_vertical_scroll_end)
        pane.search("LINE 2")
        assert list(pane.lines) == ["line 2", *(f"line {n}" for n in range(20, 30))]
        with log.open("a") as file:
            file.write("ne: not wanted\nline 2 again\n")
        pane.update()
        assert list(pane.lines)[-1] == "line 2 again"
        assert "not wanted" not in "\n".join(pane.lines)
        pane.search("")
        pane.toggle_warnings()
        assert list(pane.lines) == ["WARNING: [slow]"]
        assert "warnings only" in str(pane.border_title)
        pane.toggle_warnings()
        assert len(pane.lines) == 34


async def test_going_up_leaves_the_end_and_end_goes_back(log: Path) -> None:
    app = Bare()
    async with app.run_test(size=(60, 12)) as pilot:
        pane = app.query_one(LogPane)
        pane.open(log)
        pane.focus()
        await until(lambda: pane.has_focus and pane.is_vertical_scroll_end and pane.scroll_y > 0)
        await pilot.press("up", "pageup")
        await until(lambda: not pane.is_vertical_scroll_end)
        pane.update()
        assert "end: follow" in str(pane.border_subtitle)
        await pilot.press("end")
        await until(lambda: pane.is_vertical_scroll_end)
        await pilot.press("home")
        await until(lambda: pane.scroll_y == 0)
        pane.update()
        assert "end: follow" in str(pane.border_subtitle)


async def test_earlier_lines_are_read_on_demand(log: Path) -> None:
    log.write_text("".join(f"line {n:>100}\n" for n in range(5000)))
    app = Bare()
    async with app.run_test(size=(60, 12)):
        pane = app.query_one(LogPane)
        pane.open(log)
        before = int(pane.lines[0].split()[1])
        assert before > 0
        assert "earlier lines above" in str(pane.border_subtitle)

        def earlier() -> bool:
            pane.scroll_to(y=0, animate=False, immediate=True)  # it may still be going to the end
            pane.action_earlier()
            return int(pane.lines[0].split()[1]) < before

        await until(earlier)
        assert list(pane.lines)[-1].endswith(" 4999")


async def test_an_empty_or_missing_log_is_told(log: Path) -> None:
    app = Bare()
    async with app.run_test(size=(60, 12)):
        pane = app.query_one(LogPane)
        log.write_text("")
        pane.open(log)
        assert str(pane.border_subtitle) == "nothing written yet"
        pane.open(log.parent / "none.txt")
        assert list(pane.lines) == []
