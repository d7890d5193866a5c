"""The doctor screen: groups, worst first; fixes to copy, one check again, the whole report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from ftlab.errors import FtlabError
from ftlab_tui.app import FtuiApp
from ftlab_tui.doctor import report
from ftlab_tui.doctor.screen import DoctorScreen
from ftlab_tui.lab import Lab

SIZES = [(80, 24), (100, 30), (160, 48)]
HERE = Path(__file__).parent


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, load: Callable[[Path], ModuleType]) -> Any:
    """What the doctor was asked; the second time, the driver is fine but the disk is not."""
    findings = load(HERE.parent / "scenes.py").DOCTOR["findings"]
    options: list[tuple[str, ...]] = []

    async def ask(given: tuple[str, ...] = ()) -> str:
        options.append(tuple(given))
        if given[:1] == ("--check",):
            row = next(row for row in findings if row["id"] == given[1])
            return json.dumps({"findings": [{**row, "status": "ok", "title": "mended"}]})
        return json.dumps({"findings": findings})

    monkeypatch.setattr(report, "ask", ask)
    return options


@pytest.fixture
def app(tmp_path: Path) -> FtuiApp:
    return FtuiApp(Lab(tmp_path / "runs", tmp_path / "state", lambda: 1.7e9, "host"))


async def doctor(pilot: Pilot[None]) -> DoctorScreen:
    await pilot.pause()
    await pilot.press("5")
    screen = pilot.app.screen
    assert isinstance(screen, DoctorScreen)
    for _ in range(100):
        if screen.found:
            break
        await pilot.pause(0.05)
    await pilot.pause()
    return screen


def shown(screen: DoctorScreen) -> list[str]:
    return [str(option.prompt) for option in screen.query_one("#findings", OptionList).options]


@pytest.mark.parametrize("size", SIZES)
async def test_worst_first_in_groups_and_the_fix_is_copied(
    app: FtuiApp, asked: Any, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        screen = await doctor(pilot)
        lines = shown(screen)
        assert lines[0] == "torch"
        assert "PyTorch sees no GPU" in lines[1]
        assert lines.index("gpu") > lines.index("disk") > 0
        assert sum("driver" in line for line in lines) == 1
        detail = str(screen.query_one("#about", Static).render())
        assert "pip install torch" in detail
        await pilot.press("y")
        copied = app.lab.state / "copied" / "fix-torch-cuda"
        assert any("pip install torch" in path.read_text() for path in copied.parent.iterdir())


async def test_one_check_again_and_the_report(app: FtuiApp, asked: Any) -> None:
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await doctor(pilot)
        await pilot.press("down", "c")
        await pilot.pause(0.2)
        assert asked[-1] == ("--check", "disk-free")
        assert any("mended" in line for line in shown(screen))
        assert "PyTorch sees no GPU" in " ".join(shown(screen))
        await pilot.press("d")
        await pilot.pause(0.2)
        assert asked[-1] == ("--deep",)
        await pilot.press("x")
        await pilot.pause()
        kept = app.lab.state / "copied" / "doctor-report.json"
        assert len(report.read(kept.read_text())) == 6


async def test_filter_and_a_doctor_that_fails(
    app: FtuiApp, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await doctor(pilot)
        await pilot.press("slash", *"disk", "enter")
        assert len(shown(screen)) == 2
        await pilot.press("slash", *"zzz", "enter")
        assert shown(screen) == []
        await pilot.press("y", "c", "escape")

        async def broken(options: Any = ()) -> str:
            raise FtlabError("ftdoctor failed (exit code 1): no words")

        monkeypatch.setattr(report, "ask", broken)
        screen.query_one("#findings").focus()
        await pilot.press("r")
        await pilot.pause(0.2)
        assert "no words" in str(screen.query_one("#sum", Static).render())


async def test_a_report_that_cannot_be_written(app: FtuiApp, asked: Any) -> None:
    app.lab.state.write_text("a file where a folder should be")
    async with app.run_test(size=(80, 24)) as pilot:
        await doctor(pilot)
        await pilot.press("x", "y")
        await pilot.pause()
        assert any("no report was written" in note.message for note in app._notifications)
