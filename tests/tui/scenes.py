"""Every screen of the app, one after the other, with nothing in it that depends on the machine.

Clock, host, GPUs, facts, plan, doctor and the commands of ftrun are given; paths are relative.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import waiting
from textual._context import visible_screen_stack
from textual.pilot import Pilot
from textual.widgets import DataTable, Input

from ftlab import trash
from ftlab.run import Run, Status
from ftlab_tui.app import FtuiApp
from ftlab_tui.doctor import report
from ftlab_tui.lab import Lab
from ftlab_tui.monitor import asking
from ftlab_tui.monitor.plot import Chart
from ftlab_tui.new import children, fits, planning, sources
from ftlab_tui.reading import gpus
from ftlab_tui.runs import commands

until = functools.partial(waiting.until, seconds=20)

START = 1_700_000_000.0
GIB = 1 << 30
SCENES = (
    "home", "new-model", "new-data", "new-settings", "new-review", "monitor-sft", "monitor-dpo",
    "runs", "compare", "confirm", "doctor", "help", "palette", "themes", "token", "stop", "end",
    "log-filter", "full", "notes", "export", "resume", "empty-trash",
)  # fmt: skip
VERDICT = """INCOMPARABLE: 1 field that may change results differs
config.train.max_steps: 200 | 300
"""
DOCTOR = {"findings": [
    {"id": "gpu-driver", "status": "ok", "title": "NVIDIA driver", "observed": "550.54"},
    {"id": "disk-free", "status": "warn", "title": "Free disk space", "observed": "9.1 GiB",
     "expected": "20 GiB or more", "why": "a checkpoint that does not fit ends the run",
     "fix": [{"cmd": "ftrun runs", "needs": "none"}], "evidence": ["statvfs: 9771050598"]},
    {"id": "torch-cuda", "status": "fail", "title": "PyTorch sees no GPU",
     "observed": "torch 2.4.1+cpu", "expected": "a build for CUDA 12.1",
     "why": "training would run on the CPU, about a hundred times slower",
     "fix": [{"cmd": "pip install torch==2.4.1", "needs": "network"}], "blocks": ["training"]},
    {"id": "gpu-temperature", "status": "ok", "title": "GPU temperature", "observed": "64 °C"},
    {"id": "container-toolkit", "status": "unknown", "title": "Container toolkit"},
    {"id": "wsl", "status": "skip", "title": "Windows Subsystem for Linux"},
]}  # fmt: skip


def freeze(monkeypatch: pytest.MonkeyPatch, folder: Path, core: ModuleType, maker: Any) -> FtuiApp:
    """The app in an empty folder with five runs. `maker` is the class of makers of runs."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("TEXTUAL_THEME", raising=False)
    monkeypatch.setenv("FTLAB_CACHE", "cache")
    monkeypatch.setenv("HF_HUB_CACHE", "hub")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(socket, "gethostname", lambda: "lab-host")
    monkeypatch.setattr(Status, "silence", lambda self: 1.0)
    monkeypatch.setattr(trash, "size", lambda path: 12_345_678)
    card = gpus.GpuNow(
        0, "NVIDIA H100 PCIe", "GPU-1", 61 * GIB, 80 * GIB, 97, 64, 312.0, 350.0, ("power cap",)
    )
    monkeypatch.setattr(gpus.Nvml, "read", lambda self: gpus.Reading((card,)))
    monkeypatch.setattr(sources, "_recipes", list)
    ask_to_end = asking.end_question

    def end_question(live: Any, kill: bool) -> tuple[str, str]:
        """As if the trainer, which is this process, had a number that is always the same."""
        question, detail = ask_to_end(live, kill)
        return question.replace(f" {os.getpid()} ", " 4242 "), detail

    monkeypatch.setattr(asking, "end_question", end_question)
    _no_children(monkeypatch, folder, core)
    make = maker(Path("runs"), core.fake_plan)
    make("sft-smollm2-a", 200, state="done")
    make("sft-smollm2-b", 120, total=300, state="stopped")
    make("dpo-qwen3-a", 140, dpo=True, live=True)
    make("sft-llama-b", 7, state="failed")
    make("sft-smollm2-c", 160, live=True)
    return FtuiApp(Lab(Path("runs"), Path("state"), lambda: START + 160, "lab-host"))


def _no_children(monkeypatch: pytest.MonkeyPatch, folder: Path, core: ModuleType) -> None:
    memory = {"weights": 3 * GIB, "adapters": GIB // 4, "optimizer": GIB // 2}
    memory["activations"] = 2 * GIB
    plan = dataclasses.replace(core.fake_plan(200), memory=memory)
    known = set(planning.plans.MEMORY_TERMS)
    assert set(memory) <= known, known

    async def facts(*arguments: Any) -> Any:
        samples = ('user: 2 boxes, red ⟦{"count": 2}⟧', 'user: 1 lamp ⟦{"count": 1}⟧')
        histogram = ((64, 30), (128, 120), (256, 80), (512, 10))
        return core.fake_facts(data={"samples": samples, "histogram": histogram})

    async def machine(runs_dir: Path) -> Any:
        return core.fake_plan().facts.machine

    async def ask(options: Any = ()) -> str:
        return json.dumps(DOCTOR)

    said = folder / "said.txt"
    said.write_text(VERDICT)
    marks = fits.Marks(135_000_000, {"QLoRA": 2 * GIB, "LoRA": 3 * GIB, "full": 90 * GIB})
    monkeypatch.setattr(fits, "marks", lambda config, machine: marks)
    monkeypatch.setattr(children, "facts", facts)
    monkeypatch.setattr(children, "machine", machine)
    monkeypatch.setattr(planning, "intact", lambda place: True)
    monkeypatch.setattr(planning.plans, "resolve", lambda config, facts: plan)
    monkeypatch.setattr(report, "ask", ask)
    monkeypatch.setattr(
        commands, "start", lambda arguments, state: commands.Child("ftrun compare", said, None)
    )


async def walk(pilot: Pilot[None]) -> AsyncIterator[str]:
    """Go from screen to screen; each name is given once its screen has settled."""
    app = pilot.app
    assert isinstance(app, FtuiApp)
    yield await _settled(pilot, "home")
    await pilot.press("2")
    yield await _settled(pilot, "new-model")
    await pilot.press("enter", "enter")
    await until(lambda: app.screen.planner.plan is not None)  # type: ignore[attr-defined]
    await pilot.press("ctrl+b")
    yield await _settled(pilot, "new-data")
    await pilot.press("enter")
    yield await _settled(pilot, "new-settings")
    await pilot.press("ctrl+n")
    yield await _settled(pilot, "new-review")
    for name in ("sft-smollm2-c", "dpo-qwen3-a"):
        app.open_run(next(run for run in Run.all(app.lab.runs_dir) if run.id == name))
        await until(lambda: any(c.curves for c in app.screen.query("#main").results(Chart)))
        await pilot.pause(0.6)
        yield await _settled(pilot, "monitor-sft" if name.startswith("sft") else "monitor-dpo")
    await pilot.press("4")
    await until(lambda: not app.screen._loading)  # type: ignore[attr-defined]
    yield await _settled(pilot, "runs")
    await pilot.press("down", "down", "space", "space", "c")
    await pilot.pause(0.5)
    yield await _settled(pilot, "compare")
    await pilot.press("escape")
    await _settled(pilot, "runs")  # a dialog shows what lay under it when it came
    await pilot.press("d")
    await until(lambda: app.front is None)
    yield await _settled(pilot, "confirm")
    await pilot.press("n", "5")
    yield await _settled(pilot, "doctor")
    await pilot.press("question_mark")
    yield await _settled(pilot, "help")
    await pilot.press("escape", "ctrl+p")
    yield await _settled(pilot, "palette")
    await pilot.press("escape")
    async for name in _dialogs(pilot):
        yield name


async def _dialogs(pilot: Pilot[None]) -> AsyncIterator[str]:
    """What lies over the screens; each is left by the key that changes nothing."""
    await pilot.press("t")
    yield await _settled(pilot, "themes")
    await pilot.press("escape", "2", "ctrl+t")
    yield await _settled(pilot, "token")
    await pilot.press("escape", "3", "s")
    yield await _settled(pilot, "stop")
    await pilot.press("n", "S")
    yield await _settled(pilot, "end")
    await pilot.press("n", "slash", *"warn")
    yield await _settled(pilot, "log-filter")
    await pilot.press("escape")
    pilot.app.screen.query_one("#main").focus()
    await pilot.press("f", "left", "left", "left")
    yield await _settled(pilot, "full")
    await pilot.press("escape", "escape", "4")
    for run, key, name in (
        ("sft-smollm2-a", "m", "notes"), ("sft-smollm2-a", "x", "export"),
        ("sft-smollm2-b", "r", "resume"),
    ):  # fmt: skip
        await _ask(pilot, run, key)
        yield await _settled(pilot, name)
        await pilot.press("escape")
        await _settled(pilot, "runs")
    await pilot.press("d", "y")  # the marked ones
    await until(lambda: pilot.app.screen.query_one(DataTable).row_count == 3)
    pilot.app.clear_notifications()
    await _settled(pilot, "runs")
    await _ask(pilot, "sft-llama-b", "X")
    yield await _settled(pilot, "empty-trash")


async def _ask(pilot: Pilot[None], run: str, key: str) -> None:
    """Choose a run of the table and press a key that asks."""
    table = pilot.app.screen.query_one(DataTable)
    table.move_cursor(row=table.get_row_index(run))
    await pilot.press(key)
    await until(lambda: pilot.app.front is None)  # type: ignore[attr-defined]


async def _settled(pilot: Pilot[None], name: str) -> str:
    """Wait until nothing changes any more."""
    before: list[str] = []
    for line in pilot.app.screen.query(Input):
        line.cursor_blink = False
    for _ in range(40):
        await pilot.pause(0.08)
        visible_screen_stack.set(pilot.app._background_screens)
        now = [strip.text for strip in pilot.app.screen._compositor.render_strips()]
        if now == before:
            return name
        before = now
    raise AssertionError(f"{name} does not settle")
