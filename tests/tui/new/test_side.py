"""The pane: file, memory, command."""

from __future__ import annotations

from types import ModuleType

from textual.app import App, ComposeResult
from textual.widgets import Static

from ftlab import config, plan
from ftlab_tui import theme
from ftlab_tui.new.side import Side


class Bare(App[None]):
    def __init__(self) -> None:
        super().__init__()
        for item in theme.THEMES:
            self.register_theme(item)
        self.theme = theme.DEFAULT

    def compose(self) -> ComposeResult:
        yield Side()


async def test_with_and_without_a_plan(core: ModuleType) -> None:
    made = plan.resolve(config.parse("model: m\ndata: d.jsonl\n"), core.fake_facts())
    app = Bare()
    async with app.run_test(size=(60, 20)) as pilot:
        side = app.query_one(Side)

        def words(selector: str) -> str:
            return str(side.query_one(selector, Static).render())

        side.update("model: m\n", None, "choose [data] first", "ftrun train x.yaml")
        await pilot.pause()
        assert "model: m" in words("#text")
        assert words("#bar") == "choose [data] first"
        assert words("#note") == ""
        assert words("#command") == "$ ftrun train x.yaml"
        side.update("model: m\n", made, "note", "ftrun train x.yaml")
        assert "GiB" in words("#bar")
        assert words("#note") == "note"
