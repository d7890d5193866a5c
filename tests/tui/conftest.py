"""Run directories as a trainer leaves them, made in a moment, and an app that watches them."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from textual._wait import wait_for_idle
from textual.app import App
from textual.notifications import Notification
from textual.pilot import Pilot
from textual.screen import ModalScreen

from ftlab.process import Identity, monotonic
from ftlab.run import Run
from ftlab_tui.app import FtuiApp
from ftlab_tui.lab import Lab

START = 1_700_000_000.0
SOON = 0.6  # seconds; a longer timer (a notice that goes away) is not waited for
CORE = Path(__file__).parents[1] / "core"


def step_event(step: int, **changed: Any) -> dict[str, Any]:
    """What a trainer writes after a step: a falling loss with noise that depends on the step."""
    noise = random.Random(step).gauss(0, 0.05)
    event = {
        "v": 1, "t": START + step, "kind": "step", "step": step, "epoch": step / 50,
        "loss": 2.0 * math.exp(-step / 100) + 0.9 + noise, "grad_norm": 0.8 + noise, "lr": 1e-4,
        "tokens": 4096, "trained_tokens": 2000, "skipped": False, "seconds": 1.0,
        "tokens_total": 4096 * step, "trained_total": 2000 * step, "tok_s": 4096.0,
        "mem_bytes": 3 << 30,
    }  # fmt: skip
    return event | changed


def preference(step: int) -> dict[str, float]:
    """What preference training adds."""
    return {
        "rewards/margins": step / 100, "rewards/accuracies": min(1.0, 0.5 + step / 400),
        "rewards/chosen": 0.1, "rewards/rejected": -0.1, "logps/chosen": -100.0 + step / 10,
        "logps/rejected": -100.0 - step / 10,
    }  # fmt: skip


@dataclasses.dataclass
class Maker:
    """Makes runs in a folder."""

    root: Path
    plan: Callable[..., Any]

    def __call__(
        self, name: str, steps: int = 60, total: int = 200, state: str = "stopped", *,
        dpo: bool = False, live: bool = False,
    ) -> Run:  # fmt: skip
        """A run of `steps` finished steps; a live one has the process of the tests as trainer."""
        run = Run.create(self.plan(steps=total), self.root, name)
        events = [{"v": 1, "t": START, "kind": "started", "step": 0, "steps": total,
                   "resumed_from": None}]  # fmt: skip
        for step in range(1, steps + 1):
            events.append(step_event(step, **(preference(step) if dpo else {})))
            if step % 20 == 0:
                at = {"v": 1, "t": START + step, "step": step}
                events.append({**at, "kind": "eval", "loss": 1.0 + 10 / step, "perplexity": 2.7})
                events.append({**at, "kind": "sample", "prompt": "What is 2+2?",
                               "text": f"Answer {step}", "reference": "4"})  # fmt: skip
                events.append({**at, "kind": "checkpoint", "path": f"step-{step:08d}",
                               "bytes": 1 << 20})  # fmt: skip
                folder = run.checkpoints_dir / f"step-{step:08d}"
                folder.mkdir()
                (folder / "COMPLETE").write_text("{}")
        self.append(run, *events)
        run.log_path.write_text("".join(f"line {n}\n" for n in range(50)) + "WARNING: slow\n")
        changes: dict[str, Any] = {"state": state, "step": steps, "created": START}
        if live:
            changes |= {**Identity.mine().to_dict(), "state": "running", "heartbeat": START,
                        "monotonic": monotonic()}  # fmt: skip
        run.write_status(dataclasses.replace(run.status(), **changes))
        return run

    def append(self, run: Run, *events: dict[str, Any]) -> None:
        """Write events at the end of events.jsonl."""
        with run.events_path.open("a") as file:
            file.writelines(json.dumps(event) + "\n" for event in events)


@pytest.fixture
def make_run(tmp_path: Path, load: Callable[[Path], ModuleType]) -> Maker:
    """The maker of runs."""
    return Maker(tmp_path / "runs", load(CORE / "conftest.py").fake_plan)


@pytest.fixture
def make_event() -> Callable[..., dict[str, Any]]:
    """The maker of step events."""
    return step_event


@pytest.fixture
def make_app(tmp_path: Path, make_run: Maker) -> Callable[..., FtuiApp]:
    """`make_app(run)`: an app that watches a run, with a frozen clock and host."""

    def make(run: Run | None = None, now: float = START + 100) -> FtuiApp:
        host = Identity.mine().host
        lab = Lab(runs_dir=make_run.root, state=tmp_path / "state", now=lambda: now, host=host)
        return FtuiApp(lab, attach=run)

    return make


@pytest.fixture
def fake_trainer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`launch.local` starts the trainer without a model; none is left behind."""
    from ftlab.launch import local

    def command(run: Run, resume: bool) -> list[str]:
        arguments = [sys.executable, str(CORE / "fake_trainer.py"), str(run.path)]
        return [*arguments, "--resume"] if resume else arguments

    path = ":".join(str(CORE.parents[1] / name) for name in ("core", "kernels", "tui", "doctor"))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr(local, "trainer_command", command)
    known = set(local._children)
    yield
    for pid in set(local._children) - known:
        child = local._children.pop(pid)
        if child.poll() is None:
            child.kill()
        child.wait(10)


@pytest.fixture(autouse=True)
def _patient_pilot(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pilot.pause` and `pilot.press` end when what they set off has ended, on a slow machine too.

    A fixed pause is a bet on the machine's speed: long enough here, too short on a loaded one.
    """
    if request.node.get_closest_marker("impatient"):
        return
    pause, press = Pilot.pause, Pilot.press

    async def patient_pause(self: Pilot[Any], delay: float | None = None) -> None:
        await pause(self, delay)
        await settle(self)

    async def patient_press(self: Pilot[Any], *keys: str) -> None:
        await press(self, *keys)
        await settle(self)

    monkeypatch.setattr(Pilot, "pause", patient_pause)
    monkeypatch.setattr(Pilot, "press", patient_press)
    # What was told is read after the key is dealt with, which may take longer than it is shown.
    monkeypatch.setattr(Notification, "has_expired", False)


async def settle(pilot: Pilot[Any], most: float = 30.0) -> None:
    """Wait for workers, for timers that fire once soon, and for the messages they leave.

    A worker that waits for the person's answer to a question does not end: none is waited for while
    a question is asked.
    """
    app, deadline = pilot.app, time.monotonic() + most
    while app.is_running and _pending(app):
        assert time.monotonic() < deadline, "the app does not come to rest"
        await asyncio.sleep(0.005)
    await wait_for_idle(0)


def _pending(app: App[Any]) -> bool:
    working = any(worker.is_running for worker in app.workers)
    if working and not isinstance(app.screen, ModalScreen):
        return True
    pumps = [app, *(node for screen in app.screen_stack for node in screen.walk_children(
        with_self=True))]  # fmt: skip
    return any(
        timer._repeat == 0 and timer._interval < SOON and timer._task and not timer._task.done()
        for pump in pumps for timer in list(pump._timers)
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine is run in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
