"""The line that chooses GPUs: offered where there are some, told like a typed setting."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import pytest
from textual.app import App, ComposeResult

from ftlab_tui.new.devices import Devices, offers
from ftlab_tui.new.draft import Draft
from ftlab_tui.new.form import Field
from ftlab_tui.widgets.choice import Choice


class Bare(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str]] = []

    def compose(self) -> ComposeResult:
        yield Devices()

    def on_field_typed(self, event: Field.Typed) -> None:
        self.told.append((event.path, event.text))


@pytest.fixture
def machine(core: ModuleType) -> Any:
    return core.fake_facts(gpus=("h100", "h100", "t4")).machine


def test_what_is_offered(machine: Any) -> None:
    assert offers(None) == {"auto": "auto"}
    assert offers(dataclasses.replace(machine, gpus=())) == {"auto": "auto"}
    assert offers(machine) == {
        "auto": "auto", "GPU 0": "[0]", "GPU 1": "[1]", "GPU 2": "[2]", "2 GPUs": "2", "CPU": "[]",
    }  # fmt: skip


async def test_it_appears_with_gpus_and_tells_its_choice(machine: Any) -> None:
    app, draft = Bare(), Draft()
    async with app.run_test(size=(80, 6)) as pilot:
        line, choice = app.query_one(Devices), app.query_one(Choice)
        assert not line.display
        draft.set("launch.devices", [0, 2])
        line.offer(machine, draft)
        assert line.display
        assert choice.value == "[0, 2]"
        draft.set("launch.devices", 2)
        line.follow(draft)
        assert choice.value == "2 GPUs"
        choice.focus()
        await pilot.press("right", "right")
        assert app.told == [("launch.devices", "[]"), ("launch.devices", "")]
        line.offer(None, draft)
        assert not line.display
