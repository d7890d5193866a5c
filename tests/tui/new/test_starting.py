"""A disk that is full: saving, editing, copying and starting say so, and the draft is kept."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from ftlab.run import Run
from ftlab_tui.app import FtuiApp
from ftlab_tui.new import sources
from ftlab_tui.new.screen import NewScreen


async def test_a_full_disk_is_told_and_the_draft_is_kept(
    quiet: list[str], make_app: Callable[[], FtuiApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("enter")
        screen = app.screen
        assert isinstance(screen, NewScreen)
        for _ in range(100):
            if screen.planner.plan is not None:
                break
            await pilot.pause(0.05)
        opened = os.open

        def full(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return opened(path, flags, *rest, **named)

        monkeypatch.setattr(os, "open", full)
        before = screen.draft.yaml()
        opened_in_editor: list[Any] = []
        monkeypatch.setattr(app, "edit", opened_in_editor.append)
        for key in ("ctrl+s", "y", "e", "enter"):
            app.clear_notifications()
            await pilot.press(key)
            await pilot.pause(0.3)
            assert app.is_running
            told = [note.message for note in app._notifications]
            assert key == "y" or any("no space" in message for message in told), key
            assert not any(message.startswith("saved") for message in told)
        assert opened_in_editor == []  # an old or empty file would replace the draft
        assert screen.draft.yaml() == before
        assert Run.all(app.lab.runs_dir) == []
        monkeypatch.undo()


async def test_a_draft_that_cannot_be_kept_is_told_once(
    quiet: list[str], make_app: Callable[[], FtuiApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    app.lab.state.parent.mkdir(parents=True, exist_ok=True)
    app.lab.state.write_text("a file where the folder should be")
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("2")
        screen = app.screen
        assert isinstance(screen, NewScreen)
        for rank in (8, 16, 32):
            screen.draft.set("adapter.r", rank)
            screen.refresh_draft()
            await pilot.pause()
        told = [n.message for n in app._notifications if "in memory alone" in n.message]
        assert len(told) == 1
        assert screen.draft.get("adapter.r") == 32


async def test_a_quick_start_on_a_full_disk(
    quiet: list[str], make_app: Callable[[], FtuiApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sources, "write_starter", full)
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("enter")
        for _ in range(400):
            if told := any("No space left" in note.message for note in app._notifications):
                break
            await pilot.pause(0.05)
        assert told
        assert isinstance(app.screen, NewScreen)
