"""Tags and a note, kept by Enter alone."""

from __future__ import annotations

import pytest
from textual.app import App
from textual.widgets import Input

from ftlab.notes import Notes
from ftlab_tui.runs.notesdialog import NotesDialog

BEFORE = Notes(("good", "old"), "first try")


@pytest.mark.parametrize(
    ("key", "answer"),
    [("enter", Notes(("new", "words"), "another [text]")), ("escape", None)],
)
async def test_enter_keeps_and_esc_leaves(key: str, answer: Notes | None) -> None:
    app: App[None] = App()
    given: list[Notes | None] = []
    async with app.run_test(size=(60, 16)) as pilot:
        await app.push_screen(NotesDialog("r[1]", BEFORE), given.append)
        tags, note = app.screen.query(Input)
        assert (tags.value, note.value) == ("good old", "first try")
        tags.value, note.value = "#new, words new", "  another [text] "
        note.focus()
        await pilot.press(key)
        await pilot.pause()
    assert given == [answer]
