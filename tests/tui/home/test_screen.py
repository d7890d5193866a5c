"""Home: actions first, then runs; a damaged run and a missing folder are no fault."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import OptionList, Static

from ftlab.run import Run
from ftlab_tui.app import FtuiApp
from ftlab_tui.lab import Lab

SIZES = [(80, 24), (100, 30), (160, 48)]


def ids(app: FtuiApp) -> list[str]:
    listed = app.screen.query_one("#actions", OptionList)
    return [str(option.id) for option in listed.options]


def app_of(root: Path) -> FtuiApp:
    return FtuiApp(Lab(root, root.parent / "state", lambda: 1_700_000_100.0, "host"))


@pytest.mark.parametrize("size", SIZES)
async def test_actions_then_runs_newest_first(
    make_run: Callable[..., Run], size: tuple[int, int]
) -> None:
    for number in range(12):
        run = make_run(f"r{number:02}", 3, live=number == 11)
    make_run("damaged", 3).status_path.write_text("{")
    app = app_of(run.path.parent)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        assert ids(app)[:3] == ["quick", "new", "again"]
        assert len(ids(app)) == 3 + 8
        assert "13 runs in" in str(app.screen.query_one("#foot", Static).render())
        await pilot.press("slash", *"r03", "enter")
        assert ids(app)[3:] == ["run:r03"]
        await pilot.press("end", "y")
        await pilot.pause()
        assert any("r03" in path.name for path in (app.lab.state / "copied").iterdir())
        await pilot.press("enter")
        await pilot.pause(0.2)
        assert app.current_mode == "monitor"


async def test_without_runs(tmp_path: Path) -> None:
    app = app_of(tmp_path / "none")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert ids(app) == ["quick", "new"]
        await pilot.press("y", "e", "f", "f")
        assert app.current_mode == "home"


async def test_a_run_that_is_gone_meanwhile_is_told(make_run, make_app) -> None:  # type: ignore[no-untyped-def]
    run = make_run("gone", 10)
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        shutil.rmtree(run.path)
        await pilot.press("end", "enter")
        await pilot.pause()
        assert app.current_mode == "home"
        assert any("gone" in notice.message for notice in app._notifications)
        assert "run:gone" not in ids(app)
