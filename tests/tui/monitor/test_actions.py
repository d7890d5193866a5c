"""What the monitor asks for when nothing can be written: told, and the app lives on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from ftlab.run import Run
from ftlab_tui.app import FtuiApp
from ftlab_tui.monitor.screen import MonitorScreen

WORDS = {errno.ENOSPC: "no space left", errno.EROFS: "read-only", errno.EACCES: "not permitted"}


@pytest.mark.parametrize("fault", WORDS)
async def test_a_request_that_cannot_be_written(
    make_run: Callable[..., Run],
    make_app: Callable[..., FtuiApp],
    monkeypatch: pytest.MonkeyPatch,
    fault: int,
) -> None:
    run = make_run("r", live=True)
    app = make_app(run)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause(0.2)
        opened = os.open

        def refuse(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR):
                raise OSError(fault, os.strerror(fault), str(path))
            return opened(path, flags, *rest, **named)

        monkeypatch.setattr(os, "open", refuse)
        await pilot.press("k", "l", "ctrl+down", "o")  # a request, and three things to remember
        await pilot.pause(0.1)
        assert any(WORDS[fault] in note.message for note in app._notifications)
        await pilot.press("y")
        await pilot.pause(0.1)
        assert app.is_running
        assert os.listdir(run.control_dir) == []


async def test_the_height_of_the_charts_is_kept(
    make_run: Callable[..., Run], make_app: Callable[..., FtuiApp]
) -> None:
    run = make_run("r")
    heights = []
    for keys in (["ctrl+up"] * 4, []):
        async with make_app(run).run_test(size=(120, 40)) as pilot:
            await pilot.pause(0.2)
            screen = pilot.app.screen
            assert isinstance(screen, MonitorScreen)
            before = screen.query_one("#charts").size.height
            await pilot.press(*keys)
            await pilot.pause(0.1)
            heights += [before, screen.query_one("#charts").size.height]
    first, made, again, _ = heights
    assert made < first
    assert again == made


async def test_the_width_of_the_large_chart_is_kept(
    make_run: Callable[..., Run], make_app: Callable[..., FtuiApp]
) -> None:
    run = make_run("r")
    widths = []
    for keys in (["ctrl+left"] * 3, []):
        async with make_app(run).run_test(size=(120, 40)) as pilot:
            screen = pilot.app.screen
            assert isinstance(screen, MonitorScreen)
            for _ in range(1000):
                if screen.query("#main") and screen.query_one("#main").size.width:
                    break
                await pilot.pause(0.02)
            before = screen.query_one("#main").size.width
            await pilot.press(*keys)
            for _ in range(1000):
                if not keys or screen.query_one("#main").size.width < before:
                    break
                await pilot.pause(0.02)
            widths += [before, screen.query_one("#main").size.width]
            assert screen.layout_memory.get("monitor.width", 0) == 5
    first, narrower, again, _ = widths
    assert narrower < first
    assert again < first
