"""One value out of a few, by keys and mouse."""

from __future__ import annotations

from textual import on
from textual.app import App, ComposeResult

from ftlab_tui.widgets.choice import Choice


class Bare(App[None]):
    def __init__(self, *options: str) -> None:
        super().__init__()
        self.options = options
        self.heard: list[str] = []

    def compose(self) -> ComposeResult:
        yield Choice(self.options, self.options[0], id="choice")

    @on(Choice.Changed, "#choice")
    def hear(self, event: Choice.Changed) -> None:
        self.heard.append(event.value)


async def test_keys_go_round() -> None:
    app = Bare("a", "b", "c")
    async with app.run_test(size=(40, 5)) as pilot:
        choice = app.query_one(Choice)
        choice.focus()
        await pilot.press("right", "space", "right", "left", "h")
        await pilot.pause()
        assert app.heard == ["b", "c", "a", "c", "b"]
        choice.value = "unknown"
        choice.action_step(1)
        assert choice.value == "a"
        choice.value = "unknown"
        choice.action_step(-1)
        assert choice.value == "a"


async def test_a_click_takes_the_option_under_the_mouse() -> None:
    app = Bare("one", "two", "three")
    async with app.run_test(size=(40, 5)) as pilot:
        assert str(app.query_one(Choice).render()).split() == ["one", "two", "three"]
        for text in ("three", "one", "two"):
            at = str(app.query_one(Choice).render()).index(text) + 1
            await pilot.click(Choice, offset=(at + 1, 0))
        await pilot.pause()
        assert app.heard == ["three", "one", "two"]


async def test_without_room_one_is_shown_with_its_place() -> None:
    app = Bare(*(f"option-{n}" for n in range(8)))
    async with app.run_test(size=(30, 5)) as pilot:
        choice = app.query_one(Choice)
        choice.value = "option-3"
        text = str(choice.render())
        assert "option-3" in text
        assert "4/8" in text
        assert "option-2" not in text
        await pilot.click(Choice, offset=(1, 0))
        await pilot.pause()
        assert app.heard == ["option-4"]
