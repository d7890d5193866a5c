"""The safe answer is the one that Enter gives."""

from __future__ import annotations

import pytest
from textual.app import App

from ftlab_tui.widgets.confirm import Confirm


@pytest.mark.parametrize(
    ("keys", "answer"),
    [(["enter"], False), (["escape"], False), (["n"], False), (["y"], True),
     (["tab", "enter"], True), (["right", "enter"], True), (["tab", "tab", "enter"], False)],
)  # fmt: skip
@pytest.mark.parametrize("size", [(40, 12), (120, 40)])
async def test_answers(keys: list[str], answer: bool, size: tuple[int, int]) -> None:
    app: App[None] = App()
    given: list[bool | None] = []
    async with app.run_test(size=size) as pilot:
        app.push_screen(Confirm("Delete run x?", "100 MiB go", yes="Delete"), given.append)
        await pilot.pause()
        await pilot.press(*keys)
        await pilot.pause()
    assert given == [answer]
