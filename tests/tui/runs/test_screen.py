"""Runs as a person uses them, at three sizes: find, mark, compare, resume, delete, annotate."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import waiting
from textual.widgets import DataTable, Static

from ftlab import notes, trash
from ftlab.run import Run
from ftlab_tui.app import FtuiApp
from ftlab_tui.monitor.screen import MonitorScreen
from ftlab_tui.runs import commands
from ftlab_tui.runs.compareview import CompareView
from ftlab_tui.runs.exporting import ExportDialog
from ftlab_tui.runs.notesdialog import NotesDialog
from ftlab_tui.runs.screen import RunsScreen
from ftlab_tui.widgets.confirm import Confirm

until = functools.partial(waiting.until, seconds=15)

SIZES = [(80, 24), (100, 30), (160, 48)]


def drive(app: FtuiApp, journey: Callable[[Any], Awaitable[None]], size=(100, 30)) -> None:  # type: ignore[no-untyped-def]
    async def go() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause(0.2)
            await pilot.press("4")
            await until(lambda: isinstance(app.screen, RunsScreen) and not app.screen._loading)
            await journey(pilot)

    asyncio.run(go())


def screen(pilot: Any) -> RunsScreen:
    assert isinstance(pilot.app.screen, RunsScreen)
    return pilot.app.screen


def listed(pilot: Any) -> list[str]:
    return [row.run.id for row in screen(pilot).listed]


async def asked(pilot: Any) -> Confirm:
    await until(lambda: isinstance(pilot.app.screen, Confirm))
    question = pilot.app.screen
    assert isinstance(question, Confirm)
    return question


@pytest.fixture
def three(make_run) -> list[Run]:  # type: ignore[no-untyped-def]
    return [make_run("alpha", 60), make_run("beta", 40, dpo=True), make_run("gamma", 20)]


@pytest.mark.parametrize("size", SIZES)
def test_filter_sort_and_watch(three, make_app, size) -> None:  # type: ignore[no-untyped-def]
    async def journey(pilot: Any) -> None:
        assert listed(pilot) == ["alpha", "beta", "gamma"]
        table = screen(pilot).query_one("#table", DataTable)
        assert table.virtual_size.width <= size[0]
        await pilot.press("slash", *"!beta", "enter")
        assert listed(pilot) == ["alpha", "gamma"]
        await pilot.press("escape")
        assert len(listed(pilot)) == 3
        table.focus()
        for _ in range(5):
            await pilot.press("o")
        assert listed(pilot)[0] == "alpha"
        await pilot.press("enter")
        await until(lambda: isinstance(pilot.app.screen, MonitorScreen))
        assert pilot.app.screen.live.run.id == "alpha"

    drive(make_app(three[2]), journey, size)


@pytest.mark.parametrize("size", SIZES)
def test_compare(three, make_app, make_run, monkeypatch, size) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(commands, "COMMANDS", {})
    other = make_run("delta", 30, total=300)

    async def journey(pilot: Any) -> None:
        await pilot.press("space", "down", "space", "c")
        view = screen(pilot).query_one(CompareView)
        await until(lambda: len(view.query_one("#curves").curves) == 2)
        assert [live.run.id for live in view.runs] == ["alpha", "delta"]
        assert "config.train.max_steps [numerics]: 200 | 300" in view.text
        assert "no command `compare`" in str(view.query_one("#verdict", Static).content)
        await pilot.press("right_square_bracket", "l", "w")
        await pilot.press("escape")
        assert not screen(pilot).has_class("-comparing")
        assert screen(pilot).marks
        await pilot.press("escape")
        assert not screen(pilot).marks

    drive(make_app(other), journey, size)


@pytest.mark.parametrize("size", SIZES)
def test_delete_names_the_bytes_and_can_be_undone(three, make_app, make_run, size) -> None:  # type: ignore[no-untyped-def]
    async def journey(pilot: Any) -> None:
        await pilot.press("d")
        question = await asked(pilot)
        assert "alpha" in question.question
        assert str(three[0].path) in question.detail
        assert "iB" in question.detail
        await pilot.press("enter")
        assert three[0].path.is_dir()
        await until(lambda: isinstance(pilot.app.screen, RunsScreen))
        await pilot.press("d")
        await asked(pilot)
        await pilot.press("y")
        await until(lambda: not three[0].path.is_dir())
        await until(
            lambda: isinstance(pilot.app.screen, RunsScreen) and "alpha" not in listed(pilot)
        )
        await pilot.press("u")
        await until(lambda: three[0].path.is_dir() and "alpha" in listed(pilot))
        assert trash.contents(make_run.root) == []

    drive(make_app(three[2]), journey, size)


def test_a_running_run_is_not_deleted(make_run, make_app) -> None:  # type: ignore[no-untyped-def]
    run = make_run("live", live=True)

    async def journey(pilot: Any) -> None:
        await pilot.press("d")
        await pilot.pause(0.3)
        assert isinstance(pilot.app.screen, RunsScreen)
        assert run.path.is_dir()

    drive(make_app(run), journey)


@pytest.mark.parametrize("size", SIZES)
def test_resume(make_run, make_app, fake_trainer, size) -> None:  # type: ignore[no-untyped-def]
    run = make_run("half", 40, total=60)

    async def journey(pilot: Any) -> None:
        await pilot.press("r")
        question = await asked(pilot)
        assert "step-00000040" in question.detail
        assert "step 40 of 60" in question.detail
        await pilot.press("y")
        await until(lambda: isinstance(pilot.app.screen, MonitorScreen))
        await until(lambda: run.liveness() == "done")

    drive(make_app(run), journey, size)


def test_what_is_done_is_not_resumed(make_run, make_app) -> None:  # type: ignore[no-untyped-def]
    async def journey(pilot: Any) -> None:
        await pilot.press("r")
        await pilot.pause(0.4)
        assert isinstance(pilot.app.screen, RunsScreen)
        told = [note.message for note in pilot.app._notifications]
        assert any("is done" in message for message in told)

    drive(make_app(make_run("r", state="done")), journey)


def test_tags_and_a_note(three, make_app) -> None:  # type: ignore[no-untyped-def]
    async def journey(pilot: Any) -> None:
        await pilot.press("m")
        await until(lambda: isinstance(pilot.app.screen, NotesDialog))
        await pilot.press(*"paper best", "enter")
        await until(lambda: notes.read(three[0]).tags == ("paper", "best"))
        await until(lambda: isinstance(pilot.app.screen, RunsScreen))
        await until(lambda: screen(pilot).rows[0].tags == ("paper", "best"))
        await pilot.press("slash", *"#paper")
        assert listed(pilot) == ["alpha"]

    drive(make_app(three[2]), journey)


def test_commands_that_are_missing_are_said_to_be(three, make_app, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(commands, "COMMANDS", {})

    async def journey(pilot: Any) -> None:
        await pilot.press("x", "p")
        await pilot.pause(0.2)
        told = [note.message for note in pilot.app._notifications]
        assert any("no command `export`" in message for message in told)
        assert any("no command `reproduce`" in message for message in told)

    drive(make_app(three[2]), journey)


def test_an_export_is_asked_and_goes_through_ftrun(three, make_app, monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    asked_for: list[list[str]] = []

    def start(arguments: Any, state: Any) -> commands.Child:
        asked_for.append(list(arguments))
        return commands.Child("ftrun export alpha", tmp_path / "none", None, "no disk")

    monkeypatch.setattr(commands, "start", start)

    async def journey(pilot: Any) -> None:
        await pilot.press("x")
        await until(lambda: isinstance(pilot.app.screen, ExportDialog))
        await pilot.press("enter")  # starts nothing
        assert "export/merged" in pilot.app.screen.detail
        await pilot.press("escape")
        await until(lambda: isinstance(pilot.app.screen, RunsScreen))
        assert asked_for == []
        await pilot.press("x")
        await until(lambda: isinstance(pilot.app.screen, ExportDialog))
        await pilot.press("right", "down", *["right"] * 3, "y")
        wanted = ["export", str(three[0].path), "--to", "gguf", "--dtype", "q8_0"]
        await until(lambda: asked_for == [wanted])
        await until(lambda: any("no disk" in n.message for n in pilot.app._notifications))

    drive(make_app(three[2]), journey)


def test_many_runs_and_damaged_ones(make_run, make_app) -> None:  # type: ignore[no-untyped-def]
    runs = [make_run(f"r{n:03}", 3) for n in range(40)]
    runs[3].status_path.write_text("{")
    runs[4].events_path.unlink()
    runs[5].plan_path.write_text("[]")

    async def journey(pilot: Any) -> None:
        assert len(listed(pilot)) == 40
        await pilot.press("end", "home", "d", "n")

    drive(make_app(runs[0]), journey)
