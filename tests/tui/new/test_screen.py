"""Whole journeys through New: nine keys, own data, DPO, wrong values, saving, cloning."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import waiting
from textual.widgets import Input, Static

from ftlab import config
from ftlab.run import Run
from ftlab_tui.app import FtuiApp
from ftlab_tui.new.form import Field
from ftlab_tui.new.screen import NewScreen

until = functools.partial(waiting.until, seconds=20)

SIZES = [(80, 24), (100, 30), (160, 48)]
BUDGET = 9
TYPED = len("ftui") + 1  # in the shell, before the app is there


def runs(app: FtuiApp) -> list[Run]:
    return Run.all(app.lab.runs_dir)


def screen(app: FtuiApp) -> NewScreen:
    assert isinstance(app.screen, NewScreen)
    return app.screen


def text(app: FtuiApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).render())


@pytest.mark.parametrize("size", SIZES)
async def test_a_newcomer_trains_in_nine_keys(
    size: tuple[int, int], quiet: list[str], make_app: Callable[[], FtuiApp]
) -> None:
    app = make_app()
    pressed = 0
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        for key in ("enter", "enter"):  # quick start, start training
            await pilot.press(key)
            pressed += 1
        await until(lambda: bool(runs(app)))
        await until(lambda: app.current_mode == "monitor")
        run = runs(app)[0]
        await until(lambda: run.liveness() == "done", seconds=30)
    assert TYPED + pressed <= BUDGET
    asked = config.load(run.config_path)
    assert asked.data.source.endswith("train.jsonl")
    assert set(quiet) == {asked.data.source}


@pytest.mark.parametrize("size", SIZES)
async def test_four_steps_with_own_data(
    size: tuple[int, int], quiet: list[str], make_app: Callable[[], FtuiApp]
) -> None:
    Path("mine.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await pilot.press("2")
        await pilot.pause()
        await pilot.press("enter")
        assert screen(app).step == "data"
        screen(app).query_one("#data-source").focus()
        await pilot.press(*"mine.jsonl", "enter")
        assert screen(app).step == "settings"
        await until(lambda: screen(app).planner.plan is not None)
        await pilot.pause()
        assert "mine.jsonl" in screen(app).draft.yaml()
        assert "trained" in text(app, "#data-facts")
        assert "row 2 of 2" in text(app, "#data-samples")
        await pilot.press("enter")
        assert screen(app).step == "review"
        assert "disk" in text(app, "#review-course")
        assert "total" in text(app, "#review-memory")
        assert "1 ok" in text(app, "#review-doctor")
        await pilot.press("escape", "escape", "escape")
        assert screen(app).step == "model"
        await pilot.press("escape")
        assert app.current_mode == "home"


async def test_preference_data_turns_dpo_on_and_other_data_off(
    quiet: list[str], make_app: Callable[[], FtuiApp]
) -> None:
    pair = {"prompt": "p", "chosen": "c", "rejected": "r"}
    Path("pairs.jsonl").write_text(json.dumps(pair) + "\n")
    Path("rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("2")
        await pilot.pause()
        await pilot.press("enter")
        line = screen(app).query_one("#data-source", Input)
        line.value = "pairs.jsonl"
        await pilot.pause()
        assert screen(app).draft.get("method.kind") == "dpo"
        assert "DPO is on" in text(app, "#data-note")
        line.value = "rows.jsonl"
        await pilot.pause()
        assert screen(app).draft.get("method.kind") == "sft"
        assert "DPO is off" in text(app, "#data-note")


async def test_a_wrong_value_is_told_at_its_field_while_typing(
    quiet: list[str], make_app: Callable[[], FtuiApp]
) -> None:
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("enter")
        await pilot.pause()
        await pilot.press("escape")
        field = screen(app).query_one("#train__epochs", Field)
        line = field.query_one(Input)
        line.focus()
        line.value = "-1"
        await pilot.pause()
        assert field.has_class("-wrong")
        assert "above 0" in str(field.query_one(".problem", Static).render())
        await pilot.press("enter", "enter")  # to the review, which does not start it
        await pilot.pause(0.2)
        assert not runs(app)
        line.value = "2"
        await pilot.pause()
        assert not field.has_class("-wrong")


async def test_the_saved_file_is_what_ftrun_takes(
    quiet: list[str], make_app: Callable[[], FtuiApp]
) -> None:
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("enter")
        await pilot.pause()
        await pilot.press("ctrl+s")
        made, _ = screen(app).draft.read()
        assert config.load("run.yaml") == made
        await pilot.press("ctrl+s")
        assert Path("run-2.yaml").is_file()


async def test_a_config_from_elsewhere_is_taken(
    quiet: list[str], make_app: Callable[[], FtuiApp]
) -> None:
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        app.clone("model: org/m\ndata: d.jsonl\ntrain: {epochs: 3}\n", "old-run")
        await pilot.pause()
        assert screen(app).draft.get("train.epochs") == 3
        assert screen(app).draft.preset == "old-run"
