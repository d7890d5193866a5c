"""The verdict in the comparison is that of `ftrun compare`, run for real on sealed runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from textual.widgets import Static

from ftlab.run import Run
from ftlab_tui.app import FtuiApp
from ftlab_tui.lab import Lab
from ftlab_tui.runs.screen import RunsScreen

CORE = Path(__file__).parents[2] / "core"


@pytest.mark.parametrize(("other", "verdict"), [("b", "BITWISE"), ("c", "NOT REPRODUCED")])
async def test_a_real_verdict(
    tmp_path: Path, load: Callable[[Path], ModuleType], other: str, verdict: str
) -> None:
    make, plan = load(CORE / "reproduce/conftest.py"), load(CORE / "conftest.py").fake_plan
    root = tmp_path / "runs"
    changed: dict[str, Any] = {"losses": {2: 9.0}} if other == "c" else {}
    for name, options in (("a", {}), (other, changed)):
        make.finish(Run.create(plan(make.STEPS), root, name), **options)
    app = FtuiApp(Lab(root, tmp_path / "state", lambda: 1.7e9, "host"))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("4")
        screen = app.screen
        assert isinstance(screen, RunsScreen)
        while screen._loading:
            await asyncio.sleep(0.05)
        await pilot.press("c")
        told = ""
        for _ in range(400):
            told = str(screen.query_one("#verdict", Static).content)
            if told and "comparing" not in told:
                break
            await asyncio.sleep(0.05)
        assert told.splitlines()[1].startswith(verdict), told
    assert os.listdir(tmp_path / "state" / "commands")
