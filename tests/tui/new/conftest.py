"""New without children: facts, machine and doctor are given, and the trainer is a fake."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ftlab.launch import local
from ftlab.run import Run
from ftlab_tui.app import FtuiApp
from ftlab_tui.doctor import report
from ftlab_tui.lab import Lab
from ftlab_tui.new import children, planning

CORE = Path(__file__).parents[2] / "core"
SIZES = [(80, 24), (100, 30), (160, 48)]


@pytest.fixture(scope="session")
def core(load: Callable[[Path], ModuleType]) -> ModuleType:
    """The makers of fake facts and plans of the core's tests."""
    return load(CORE / "conftest.py")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, core: ModuleType) -> Iterator[list[str]]:
    """No child but a fake trainer; the list says which data was asked for."""
    asked: list[str] = []

    async def facts(config: Any, runs_dir: Path) -> Any:
        asked.append(config.data.source)
        preference = config.method.kind == "dpo"
        made = core.fake_facts(data={"preference": preference, "samples": ("Q ⟦A⟧", "Q2 ⟦A2⟧")})
        return dataclasses.replace(made, data=dataclasses.replace(
            made.data, format="preference" if preference else "messages"))  # fmt: skip

    async def machine(runs_dir: Path) -> Any:
        return core.fake_facts().machine

    async def doctor(options: Any = ()) -> str:
        return '{"findings": [{"id": "disk-free", "status": "ok", "title": "Disk"}]}'

    monkeypatch.setattr(children, "facts", facts)
    monkeypatch.setattr(children, "machine", machine)
    monkeypatch.setattr(planning, "intact", lambda folder: True)
    monkeypatch.setattr(report, "ask", doctor)

    def command(run: Run, resume: bool) -> list[str]:
        return [sys.executable, str(CORE / "fake_trainer.py"), str(run.path)]

    monkeypatch.setattr(local, "trainer_command", command)
    known = set(local._children)
    yield asked
    for pid in set(local._children) - known:
        local._children.pop(pid).wait(20)


@pytest.fixture
def make_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], FtuiApp]:
    """An app in an empty folder with a frozen clock and host."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("TEXTUAL_THEME", raising=False)
    lab = Lab(tmp_path / "runs", tmp_path / "state", lambda: 1_700_000_000.0, "host")
    return lambda: FtuiApp(lab)
