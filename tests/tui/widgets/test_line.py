"""A line is laid out anew only when its height changes, and painted only when its text does."""

from __future__ import annotations

import pytest
from rich.text import Text
from textual.app import App, ComposeResult

from ftlab_tui.widgets.line import Line


class Bare(App[None]):
    def compose(self) -> ComposeResult:
        yield Line(id="line")


async def test_only_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[tuple[str, bool]] = []
    update = Line.update

    def note(self: Line, content: Text, *, layout: bool = True) -> None:
        updates.append((content.plain, layout))
        update(self, content, layout=layout)

    monkeypatch.setattr(Line, "update", note)
    async with Bare().run_test(size=(40, 10)) as pilot:
        line = pilot.app.query_one(Line)
        for shown in ("one", "one", "two", "two\nlines", "2\nlines", "", ""):
            line.show(Text(shown))
        line.show(Text("x", "red"))
        line.show(Text("x", "blue"))
        await pilot.pause()
        assert line.size.height == 1
    assert updates == [
        ("one", True), ("two", False), ("two\nlines", True), ("2\nlines", False), ("", True),
        ("x", True), ("x", False),
    ]  # fmt: skip
