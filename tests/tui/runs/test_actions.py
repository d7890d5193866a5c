"""What can be done with runs, where it cannot be done: told, and nothing is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from waiting import until

from ftlab import trash
from ftlab.errors import FtlabError
from ftlab.run import Run
from ftlab_tui.app import FtuiApp
from ftlab_tui.runs.screen import RunsScreen
from ftlab_tui.widgets.confirm import Confirm


async def runs(app: FtuiApp) -> RunsScreen:
    """The screen with its table read."""
    await until(lambda: app.current_mode == "home")
    app.switch_mode("runs")
    await until(lambda: isinstance(app.screen, RunsScreen) and not app.screen._loading)
    screen = app.screen
    assert isinstance(screen, RunsScreen)
    await until(lambda: bool(screen.listed))
    return screen


def told(app: FtuiApp) -> str:
    return "\n".join(note.message for note in app._notifications)


async def test_a_running_run_is_not_deleted(
    make_run: Callable[..., Run], make_app: Callable[..., FtuiApp]
) -> None:
    run = make_run("alive", live=True)
    app = make_app()
    async with app.run_test(size=(100, 30)):
        screen = await runs(app)
        screen.action_delete()
        await until(lambda: "alive is running: stop it first" in told(app))
        assert screen is app.screen
    assert run.path.is_dir()


async def test_an_empty_trash_is_told(
    make_run: Callable[..., Run], make_app: Callable[..., FtuiApp]
) -> None:
    make_run("r")
    app = make_app()
    async with app.run_test(size=(100, 30)):
        screen = await runs(app)
        screen.action_undo()
        await until(lambda: told(app).count("the trash is empty") == 1)
        screen.action_empty()
        await until(lambda: told(app).count("the trash is empty") == 2)


async def test_a_delete_that_fails_is_told_and_loses_nothing(
    make_run: Callable[..., Run], make_app: Callable[..., FtuiApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("r")

    def refuse(which: Any) -> Any:
        raise FtlabError("the folder is read-only")

    monkeypatch.setattr(trash, "discard", refuse)
    app = make_app()
    async with app.run_test(size=(100, 30)):
        screen = await runs(app)
        screen.action_delete()
        await until(lambda: isinstance(app.screen, Confirm) and app.screen.focused is not None)
        app.screen.dismiss(True)
        await until(lambda: "the folder is read-only" in told(app))
    assert run.path.is_dir()


async def test_a_config_that_cannot_be_read_is_not_cloned(
    make_run: Callable[..., Run], make_app: Callable[..., FtuiApp]
) -> None:
    run = make_run("r")
    run.config_path.write_bytes(b"\xff\xfe")
    app = make_app()
    async with app.run_test(size=(100, 30)):
        screen = await runs(app)
        screen.action_clone()
        await until(lambda: "cannot be read" in told(app))
        assert app.current_mode == "runs"
