"""Answers that come later: the place of the run, the hub's search, and both refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from ftlab import launch
from ftlab.errors import EnvironmentUnfit, TryLater
from ftlab_tui.app import FtuiApp
from ftlab_tui.new import guess
from ftlab_tui.new.screen import NewScreen


def words(app: FtuiApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).render())


async def new(pilot: Pilot[None]) -> NewScreen:
    await pilot.press("2")
    await pilot.pause()
    screen = pilot.app.screen
    assert isinstance(screen, NewScreen)
    return screen


@pytest.mark.parametrize("answer", ["", "no container engine answers; start docker"])
async def test_the_review_says_whether_docker_can_be_used(
    quiet: list[str], make_app: Callable[[], FtuiApp], monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    def check(where: str) -> None:
        assert where == "docker"
        if answer:
            raise EnvironmentUnfit(answer)

    monkeypatch.setattr(launch, "check", check)
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await new(pilot)
        screen.go("review")
        await pilot.pause(0.1)
        assert words(app, "#review-place") == ""
        screen.draft.set("launch.where", "docker")
        screen.draft.set("launch.image", "ftlab:cu128")
        screen.go("review")
        await pilot.pause(0.2)
        assert (answer or "the engine answers; image ftlab:cu128") in words(app, "#review-place")


async def test_the_hub_is_searched_and_its_silence_is_told(
    quiet: list[str], make_app: Callable[[], FtuiApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found(query: str) -> Any:
        assert query == "small llama"
        return [("org/tiny", "mit, 10 downloads"), ("org/gated", "gated")]

    async def offline(query: str) -> Any:
        raise TryLater("the hub cannot be searched now: HF_HUB_OFFLINE=1")

    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await new(pilot)
        monkeypatch.setattr(guess, "search", found)
        screen.query_one("#model-name").focus()
        await pilot.press(*"small", "space", *"llama", "enter")
        await pilot.pause(0.2)
        ids = [option.id for option in screen.query_one("#model-list", OptionList).options]
        assert {"org/tiny", "org/gated"} <= set(ids)
        monkeypatch.setattr(guess, "search", offline)
        screen.query_one("#model-name").focus()
        await pilot.press("enter")
        await pilot.pause(0.2)
        assert "work offline" in words(app, "#model-note")
        assert screen.step == "model"
