"""The export dialog: forms that fit the run, weights that fit the form, the command it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.app import App
from textual.command import CommandList
from textual.widgets import Button
from waiting import until

from ftlab.run import Run
from ftlab_tui.app import FtuiApp
from ftlab_tui.runs.exporting import ExportDialog
from ftlab_tui.widgets.choice import Choice

Given = list[tuple[str, ...] | None]


async def after(run: Run, *keys: str) -> tuple[Given, list[str], str]:
    """What the dialog gave, the ways to hold weights it offered last, and its text."""
    app: App[None] = App()
    given: Given = []
    async with app.run_test(size=(80, 24)) as pilot:
        dialog = ExportDialog(run)
        await app.push_screen(dialog, given.append)
        detail, held = "", list[str]()
        for key in keys:
            held, detail = dialog.query_one("#held", Choice).options, dialog.detail
            await pilot.press(key)
        await pilot.pause()
    return given, held, detail


async def test_enter_alone_starts_nothing_and_esc_leaves(make_run: Callable[..., Run]) -> None:
    given, held, detail = await after(make_run("alpha"), "enter", "escape")
    assert given == [None]
    assert held == ["bf16", "fp16", "fp32"]
    assert "export/merged" in detail
    assert "$ ftrun export alpha --to merged --dtype bf16" in detail


async def test_a_form_is_chosen_with_its_weights(make_run: Callable[..., Run]) -> None:
    run = make_run("alpha")
    given, held, detail = await after(run, "right", "down", "left", "y")
    assert given == [("export", str(run.path), "--to", "gguf", "--dtype", "q8_0")]
    assert "q8_0" in held
    assert "export/gguf-q8_0" in detail
    assert "half" in detail


async def test_weights_that_the_form_has_not_are_given_up(make_run: Callable[..., Run]) -> None:
    keys = ("right", "down", "left", "up", "left", "y")
    given, _, detail = await after(make_run("alpha"), *keys)
    assert given[0] is not None
    assert given[0][-3:] == ("merged", "--dtype", "bf16")
    assert "8 bits" not in detail


async def test_what_trained_every_weight_is_not_merged(make_run: Callable[..., Run]) -> None:
    run = make_run("alpha")
    (run.export_dir / "model").mkdir(parents=True)
    given, _, detail = await after(run, "right", "y")
    assert given == [("export", str(run.path), "--to", "ollama", "--dtype", "bf16")]
    assert "its weights are held" in detail


@pytest.mark.parametrize(("button", "started"), [("#yes", True), ("#no", False)])
async def test_buttons(make_run: Callable[..., Run], button: str, started: bool) -> None:
    app: App[None] = App()
    given: list[Any] = []
    async with app.run_test(size=(100, 30)) as pilot:
        await app.push_screen(ExportDialog(make_run("alpha")), given.append)
        app.screen.query_one(button, Button).press()
        await pilot.pause()
    assert (given[0] is not None) == started


async def test_the_palette_finds_it_by_name(
    make_run: Callable[..., Run], make_app: Callable[..., FtuiApp]
) -> None:
    make_run("alpha")
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("4")
        await until(lambda: bool(getattr(app.screen, "listed", None)))
        commands = {item.title: item.help for item in app.get_system_commands(app.screen)}
        assert commands["Export"] == "through ftrun export   x"
        assert "Focus Next" not in commands
        await pilot.press("ctrl+p", *"export")
        await until(lambda: bool(app.screen.query_one(CommandList).option_count))
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, ExportDialog))
        await pilot.press("escape")
