"""The token of the hub: asked for when the hub says no, used, and found in no file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from textual.app import App
from textual.widgets import Input, Label
from waiting import until

from ftlab.errors import DataError, EnvironmentUnfit, Problem
from ftlab.run import Run
from ftlab_tui.app import FtuiApp
from ftlab_tui.new import children, hubtoken
from ftlab_tui.new.hubtoken import TokenDialog
from ftlab_tui.new.screen import NewScreen

TOKEN = "hf_tellnobody123"


def asked(app: App[None]) -> bool:
    """Whether the dialog is there and takes keys."""
    return isinstance(app.screen, TokenDialog) and isinstance(app.focused, Input)


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """None before, and what a test gives is taken back after it."""
    monkeypatch.setenv(hubtoken.VARIABLE, "")


@pytest.mark.parametrize(
    ("typed", "wrong"),
    [(TOKEN, False), ("other-mirror", False), ("", True), ("two words", True), ("häf", True),
     ("a\x1b[31m", True)],
)  # fmt: skip
def test_what_can_be_a_token(typed: str, wrong: bool) -> None:
    assert bool(hubtoken.fault(typed)) is wrong


def test_a_given_token_reaches_children() -> None:
    assert not os.environ.get(hubtoken.VARIABLE)
    hubtoken.give(TOKEN)
    assert os.environ.get(hubtoken.VARIABLE)
    assert os.environ["HF_TOKEN"] == TOKEN


@pytest.mark.parametrize(("refused", "without", "with_one"), [
    ("", False, False), ("model 'org/m' is gated: accept its terms", True, True),
    ("model 'org/m' does not exist on the hub, or is private: check the name", True, False),
])  # fmt: skip
def test_when_it_is_asked_for(refused: str, without: bool, with_one: bool) -> None:
    assert hubtoken.may_help(refused) is without
    hubtoken.give(TOKEN)
    assert hubtoken.may_help(refused) is with_one


async def launched(app: FtuiApp, data: str) -> NewScreen:
    """A draft with a model that may not be read, started: the token is asked for."""
    await until(lambda: app.current_mode == "home")
    app.clone(f"model: org/m\ndata: {data}\n", "old")
    screen = app.screen
    assert isinstance(screen, NewScreen)
    await until(lambda: screen.is_running and hasattr(screen, "planner"))
    await until(lambda: bool(screen.planner.gated))
    screen.go("review")
    screen.action_launch()
    await until(lambda: asked(app))
    return screen


async def test_the_dialog_hides_what_is_typed_and_refuses_nothing_at_all() -> None:
    app: App[None] = App()
    given: list[str | None] = []
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(TokenDialog("model 'org/m' is gated"), given.append)
        await until(lambda: asked(app))
        await pilot.press("enter")
        wrong = app.screen.query_one(".wrong", Label)
        await until(lambda: wrong.has_class("-some"))
        assert "nothing was typed" in str(wrong.render())
        await pilot.press(*"hf_x")
        line = app.screen.query_one("#token", Input)
        assert line.value == "hf_x"
        await pilot.pause()
        assert "hf_x" not in app.export_screenshot()
        await pilot.press("enter")
        await until(lambda: bool(given))
    assert given == ["hf_x"]


async def test_esc_leaves_everything_as_it_was() -> None:
    app: App[None] = App()
    given: list[str | None] = []
    async with app.run_test(size=(40, 12)) as pilot:
        app.push_screen(TokenDialog(), given.append)
        await until(lambda: asked(app))
        await pilot.press("h", "escape")
        await until(lambda: bool(given))
    assert given == [None]
    assert not os.environ.get(hubtoken.VARIABLE)


@pytest.mark.parametrize("refusal", [
    EnvironmentUnfit("model 'org/m' does not exist on the hub, or is private: check the name"),
    DataError([Problem("data.source", "there is no local file or folder o/d, and no such data set "
                       "on the hub that you may read")]),
])  # fmt: skip
async def test_what_may_be_private_asks_once(
    quiet: list[str], make_app: Callable[[], FtuiApp], monkeypatch: pytest.MonkeyPatch,
    refusal: Exception,
) -> None:  # fmt: skip
    """With a token in use it is taken for a misspelt name."""

    async def facts(config: Any, runs_dir: Path) -> Any:
        raise refusal

    monkeypatch.setattr(children, "facts", facts)
    app = make_app()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await launched(app, "o/d")
        await pilot.press(*TOKEN, "enter")
        await until(lambda: app.screen is screen and not screen.planner.looking)
        await until(lambda: bool(screen.planner.gated))
        screen.action_launch()
        await pilot.pause()
        assert app.screen is screen
        assert any("come first" in note.message for note in app._notifications)


async def test_a_gated_model_asks_at_the_start_and_the_token_stands_nowhere(
    quiet: list[str], make_app: Callable[[], FtuiApp], monkeypatch: pytest.MonkeyPatch,
    core: ModuleType, tmp_path: Path,
) -> None:  # fmt: skip
    """The trainer that is started gets it through its environment alone."""

    async def facts(config: Any, runs_dir: Path) -> Any:
        if not os.environ.get("HF_TOKEN"):
            raise EnvironmentUnfit("model 'org/m' is gated: accept its terms on its hub page")
        return core.fake_facts()

    monkeypatch.setattr(children, "facts", facts)
    app = make_app()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await launched(app, "d.jsonl")
        assert "org/m" in str(app.screen.query_one(".refused", Label).render())
        await pilot.press(*TOKEN, "enter")
        await until(lambda: screen.planner.plan is not None)
        assert os.environ["HF_TOKEN"] == TOKEN
        assert not screen.planner.gated
        assert TOKEN not in screen.draft.yaml()
        screen.action_launch()
        await until(lambda: bool(Run.all(app.lab.runs_dir)))
        run = Run.all(app.lab.runs_dir)[0]
        await until(lambda: run.liveness() == "done")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert run.log_path in files
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
