"""The trainer outlives its launcher, is stopped by ever firmer means, never started twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ftlab import control, events, launch, ledger
from ftlab.errors import ConfigError, EnvironmentUnfit, RunBusy
from ftlab.launch import local
from ftlab.plan import Plan
from ftlab.run import Run

Spawn = Callable[..., "subprocess.Popen[str]"]
REAL_COMMAND = local.trainer_command  # before a fixture replaces it
pytestmark = pytest.mark.usefixtures("fake_trainer")


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Wait for something that must become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def steps_of(run: Run) -> list[int]:
    return [e["step"] for e in events.read(run.events_path)[0] if e["kind"] == "step"]


def test_a_run_from_start_to_done(planned: Run) -> None:
    pid = local.start(planned)
    assert planned.liveness() == "running"
    assert local.wait(planned, 20) == "done"
    until(lambda: local.exit_code(pid) is not None)
    assert local.exit_code(pid) == 0
    assert steps_of(planned) == list(range(1, 51))
    assert planned.exit() == {"code": 0, "state": "done", "reason": "", "step": 50}
    assert planned.log_path.read_text().startswith("--- ")
    assert local.exit_code(1) is None
    for resume in (False, True):
        with pytest.raises(ConfigError, match="is done"):
            local.start(planned, resume=resume)


def test_the_trainer_is_detached(planned: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SLOW", "60")
    pid = local.start(planned)
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert {os.readlink(f"/proc/{pid}/fd/{n}") for n in (1, 2)} == {str(planned.log_path)}
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert {b"PYTHONSAFEPATH=1", b"PYTHONUNBUFFERED=1", b"CUDA_VISIBLE_DEVICES="} <= {*environment}
    assert planned.liveness() == "running"
    assert planned.process() == planned.launched()


def test_a_second_start_is_refused_even_before_the_trainer_speaks(
    planned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SLOW", "60")
    pid = local.start(planned)
    for resume in (False, True):
        with pytest.raises(RunBusy, match=f"process {pid} "):
            local.start(planned, resume=resume)
    os.kill(pid, signal.SIGKILL)
    until(lambda: planned.liveness() == "lost")
    with pytest.raises(ConfigError, match="use `ftrun resume"):
        local.start(planned)
    monkeypatch.delenv("FAKE_SLOW")
    local.start(planned, resume=True)
    assert local.wait(planned, 20) == "done"


def test_killed_resumed_and_equal_to_a_straight_run(
    planned: Run, runs_root: Path, make_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    for die_at in ("7", "20"):
        monkeypatch.setenv("FAKE_DIE_AT", die_at)
        local.start(planned, resume=planned.liveness() != "planned")
        assert local.wait(planned, 20) == "lost"
        if die_at == "7":
            assert planned.status().step >= 0
    monkeypatch.delenv("FAKE_DIE_AT")
    local.start(planned, resume=True)
    straight = Run.create(make_plan(), runs_root)
    local.start(straight)
    assert {local.wait(planned, 20), local.wait(straight, 20)} == {"done"}
    assert ledger.first_difference(planned.ledger_path, straight.ledger_path) is None
    assert planned.log_path.read_text().count("--- ") == 3


def test_stop_saves_and_resume_goes_on(planned: Run) -> None:
    local.start(planned)
    until(lambda: planned.status().step > 3)
    assert local.stop(planned, 20) == "stopped"
    assert (planned.exit() or {})["code"] == 130
    saved = (planned.exit() or {})["step"]
    control.request(planned, "stop")  # too late for the trainer that ended: not for the next one
    local.start(planned, resume=True)
    assert planned.exit() is None or planned.liveness() == "done"
    assert local.wait(planned, 20) == "done"
    assert steps_of(planned)[-(50 - saved) :] == list(range(saved + 1, 51))
    assert local.stop(planned) == "done"


def test_sigterm_saves_too(planned: Run) -> None:
    local.start(planned)
    until(lambda: planned.status().step > 3)
    assert local.stop(planned, 20, ask=False) == "stopped"
    assert (planned.exit() or {})["reason"] == "SIGTERM"


def test_only_a_request_to_kill_kills(planned: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DEAF", "1")
    monkeypatch.setenv("FAKE_STEP", "1")
    local.start(planned)
    until(lambda: planned.status().state == "running")
    assert local.stop(planned, 0.2) == "running"
    assert local.stop(planned, 0.2, kill=True) == "lost"


def test_the_trainer_survives_the_death_of_its_launcher(
    planned: Run, spawn: Spawn, fake_trainer: Path
) -> None:
    code = (
        "import sys, time\n"
        "from ftlab.launch import local\n"
        "from ftlab.run import Run\n"
        "local.trainer_command = lambda run, resume: [sys.executable, sys.argv[2], str(run.path)]\n"
        "local.start(Run(sys.argv[1]))\n"
        "print('started', flush=True)\n"
        "time.sleep(60)\n"
    )
    launcher = spawn("-c", code, planned.path, fake_trainer)
    assert launcher.stdout
    assert launcher.stdout.readline() == "started\n"
    os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()
    assert local.wait(planned, 20) == "done"


def test_a_frozen_trainer_is_stalled_and_then_goes_on(
    planned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftlab.run.STALLED_AFTER", 0.5)
    monkeypatch.setenv("FAKE_STEP", "0.05")
    pid = local.start(planned)
    until(lambda: planned.status().step > 1)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: planned.liveness() == "stalled")
    os.kill(pid, signal.SIGCONT)
    until(lambda: planned.liveness() == "running")
    assert local.wait(planned, 20) == "done"


def test_a_trainer_that_dies_before_a_word_is_lost(
    planned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MUTE", "1")
    local.start(planned)
    assert local.wait(planned, 20) == "lost"
    assert "libcuda.so.1" in planned.log_path.read_text()


@pytest.mark.parametrize(
    ("devices", "outer", "visible"),
    [
        ([], None, ""),
        ([], "3,5", ""),
        ([1], None, "1"),
        ([0, 1], None, "0,1"),
        ([1], "3,5", "5"),
        ([0], "GPU-12ab", "GPU-12ab"),
        ([7], "3,5", "7"),
    ],
)
def test_only_planned_gpus_are_visible(devices: list[int], outer: str | None, visible: str) -> None:
    base = {"HOME": "/h"} | ({} if outer is None else {"CUDA_VISIBLE_DEVICES": outer})
    made = local.environment(devices, base)
    assert made["CUDA_VISIBLE_DEVICES"] == visible
    assert made["HOME"] == "/h"


def test_what_cannot_be_executed_is_said(planned: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "trainer_command", lambda run, resume: ["/no/such/python"])
    with pytest.raises(EnvironmentUnfit, match=r"cannot start /no/such/python: No such file"):
        local.start(planned)
    planned.lock().release()


def test_launch_refuses_what_this_version_cannot(
    planned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch.start(planned)
    assert local.wait(planned, 20) == "done"
    text = planned.plan_path.read_text().replace('"where": "local"', '"where": "slurm"')
    planned.plan_path.write_text(text)
    with pytest.raises(ConfigError, match=r"launch.where: slurm is not supported .*use local"):
        launch.start(planned)


def test_the_real_command_names_the_trainer_module(planned: Run) -> None:
    assert REAL_COMMAND(planned, True)[1:] == [
        "-m", "ftlab.train", str(planned.path), "--resume",
    ]  # fmt: skip
