"""The border between the steps and the pane of New."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from waiting import until

from ftlab_tui.app import FtuiApp
from ftlab_tui.layout import Layout
from ftlab_tui.new import widths
from ftlab_tui.new.screen import NewScreen
from ftlab_tui.new.side import Side


@pytest.mark.parametrize(
    ("wanted", "whole", "given"),
    [(44, 120, 44), (4, 120, widths.LEAST), (200, 120, 120 - widths.KEPT), (60, 60, 24)],
)
def test_steps_and_pane_both_keep_room(wanted: int, whole: int, given: int) -> None:
    assert widths.fitting(wanted, whole) == given


async def test_the_width_is_changed_kept_and_given_up_where_there_is_no_room(
    quiet: list[str], make_app: Callable[[], FtuiApp]
) -> None:
    app = make_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: app.current_mode == "home")
        app.switch_mode("new")
        await until(lambda: isinstance(app.screen, NewScreen) and bool(app.screen.query(Side)))
        side = app.screen.query_one(Side)
        await until(lambda: side.outer_size.width == 44)
        await pilot.press("ctrl+left", "ctrl+left")
        await until(lambda: side.outer_size.width == 44 + 2 * widths.STEP)
        await pilot.press("ctrl+right")
        await until(lambda: side.outer_size.width == 44 + widths.STEP)
        await pilot.resize_terminal(80, 24)
        await until(lambda: side.outer_size.width == 80)
        await pilot.press("ctrl+left")
        assert Layout(app.lab.state).get("new.side", 0) == 44 + widths.STEP
        await pilot.resize_terminal(120, 40)
        await until(lambda: side.outer_size.width == 44 + widths.STEP)
    again = make_app()
    async with again.run_test(size=(160, 48)):
        await until(lambda: again.current_mode == "home")
        again.switch_mode("new")
        await until(lambda: isinstance(again.screen, NewScreen) and bool(again.screen.query(Side)))
        side = again.screen.query_one(Side)
        await until(lambda: side.outer_size.width == 44 + widths.STEP)
