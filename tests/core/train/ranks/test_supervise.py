"""The head of a run of several processes: signals, last words, and nothing left behind."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftlab import events, launch, ledger
from ftlab.launch import local
from ftlab.plan import Decision, Plan
from ftlab.run import Run
from ftlab.train.ranks import supervise
from ftlab.train.signals import StopSignal

STUB = """
import os, signal, sys, time
from pathlib import Path
from ftlab import atomic
from ftlab.train.ranks.room import Fault, Room
room, exit_path, what = Room(Path(os.environ["FTLAB_RANKS"])), Path(sys.argv[1]), sys.argv[2]
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
if what == "slow":
    time.sleep(0.5)
room.enter(0)
if what in ("slow", "wait"):
    while not asked:
        time.sleep(0.01)
    atomic.write_json(exit_path, {"code": 130, "state": "stopped", "reason": "SIGTERM"})
elif what == "fault":
    room.fail(Fault(1, 3, "no memory"))
    sys.exit(1)
elif what == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif what == "mute":
    room.leave(0)
    sys.exit(1)
"""


@pytest.fixture
def head(
    make_plan: Callable[..., Plan], runs_root: Path, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., tuple[Run, int]]:  # fmt: skip
    """`head(what)`: supervise a leader that does that; the run and the exit code."""
    stub = tmp_path / "leader.py"
    stub.write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))

    def go(what: str, stop: StopSignal | None = None) -> tuple[Run, int]:
        plan = make_plan()
        plan.decisions["world_size"] = Decision(2, "test")
        run = Run.create(plan, runs_root)
        command = [sys.executable, str(stub), str(run.exit_path), what]
        monkeypatch.setattr(supervise, "command", lambda *a, **k: command)
        with run.lock():
            return run, supervise.supervise(
                run, plan, stop if stop is not None else StopSignal(), resume=False
            )

    return go


@pytest.mark.parametrize("what", ["wait", "slow"])
def test_a_signal_reaches_the_leader_once_it_is_there(head: Any, what: str) -> None:
    with StopSignal() as stop:
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        run, code = head(what, stop)
        timer.join()
    assert code == 130
    assert run.exit()["state"] == "stopped"
    assert not run.events_path.exists()  # the leader has the last word, and had it


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("fault", 3, "rank 1: no memory"),
        ("killed", 1, "rank 0: process"),
        ("mute", 1, "the end of log.txt tells more"),
    ],
)
def test_the_head_speaks_for_a_leader_that_cannot(
    head: Any, what: str, code: int, words: str
) -> None:
    run, got = head(what)
    said = run.exit()
    assert got == code == said["code"]
    assert words in said["reason"]
    assert run.liveness() == "failed"
    assert [e["kind"] for e in events.read(run.events_path)[0]] == ["error", "finished"]


def test_the_command_is_torchruns(planned: Run, make_plan: Callable[..., Plan]) -> None:
    words = supervise.command(planned, 2, "/x", resume=True)
    assert words[1:4] == ["-m", "torch.distributed.run", "--standalone"]
    assert words[words.index("--nproc-per-node") + 1] == "2"
    assert words[-3:] == ["ftlab.train.ranks.member", str(planned.path), "--resume"]
    made = supervise.environment(make_plan(), {"OMP_NUM_THREADS": "7"})
    assert made["OMP_NUM_THREADS"] == "7"
    assert made["GLOO_SOCKET_IFNAME"] == "lo"


def children(pid: int) -> set[int]:
    """A process and all that came from it."""
    found, parents = {pid}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] not in "ZX":
                parents[int(entry.name)] = int(fields[1])
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, attempt_plan: Plan, tmp_path: Path) -> Iterator[Run]:
    """A real run of two processes, started as `ftrun train` does."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # a head that is killed leaves its folder
    run = Run.create(attempt_plan, tmp_path / "runs")
    pid = launch.start(run)
    yield run
    for process in children(pid) if pid in local._children else ():
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    child = local._children.pop(pid, None)
    if child is not None:
        child.wait(10)


@pytest.fixture
def attempt_plan(plan_of: Callable[..., Plan]) -> Plan:
    plan = plan_of("sft", max_steps=2000, save_every=5, eval_every=0)
    plan.decisions["world_size"] = Decision(2, "test")
    return plan


def test_nothing_outlives_a_head_that_is_killed(launched: Run, attempt_ranks: Any) -> None:
    """And what it leaves is resumed."""
    until = time.monotonic() + 300
    while not launched.checkpoints_dir.is_dir() or not any(
        path.name.startswith("step-") and path.suffix == "" for path in
        launched.checkpoints_dir.iterdir()
    ):  # fmt: skip
        assert launched.liveness() == "running", launched.log_path.read_text()[-3000:]
        assert time.monotonic() < until
        time.sleep(0.05)
    head = launched.process()
    assert head is not None
    family = children(head.pid)
    assert len(family) >= 4  # the head, torchrun, two ranks
    assert launched.status().pid == head.pid  # the heartbeat names who answers for the run
    os.kill(head.pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/stat").exists() and _lives(pid) for pid in family):
        assert time.monotonic() < until, "a process outlived its head"
        time.sleep(0.02)
    assert launched.liveness() == "lost"
    done = max(record.step for record in ledger.read(launched.ledger_path))
    local.clear_traces(launched, True)
    again = attempt_ranks(launched, resume=True)
    again.wait_for(f'"kind": "step", "step": {done + 3}')
    os.kill(again.pids[0], signal.SIGTERM)
    assert again.end() == [0, 0]
    assert launched.liveness() == "stopped"


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def train_to_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Plan, int], Run]:
    """Launch a plan on so many processes and wait for its end."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))

    def go(plan: Plan, size: int) -> Run:
        decisions = {**plan.decisions, **({"world_size": Decision(size, "t")} if size > 1 else {})}
        run = Run.create(dataclasses.replace(plan, decisions=decisions), tmp_path / "runs")
        pid = launch.start(run)
        assert local._children.pop(pid).wait(600) == 0, run.log_path.read_text()[-5000:]
        assert run.liveness() == "done"
        return run

    return go


@pytest.mark.skipif("FTLAB_TEST_RANKS" not in os.environ, reason="FTLAB_TEST_RANKS is not set")
def test_a_launched_run_has_the_bits_of_one_process(
    plan_of: Callable[..., Plan], train_to_the_end: Callable[[Plan, int], Run]
) -> None:
    """What `member` shows with forks, through torchrun: three imports of torch a run."""
    one, two = (train_to_the_end(plan_of("sft"), size) for size in (1, 2))
    assert ledger.first_difference(one.ledger_path, two.ledger_path) is None


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{}, {"batch_size": 8, "adapter": {"lora_dropout": 0.0}}])
def test_two_gpus_repeat_their_bits(
    plan_of: Callable[..., Plan],
    train_to_the_end: Callable[[Plan, int], Run],
    settings: dict[str, Any],
) -> None:
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip(f"{torch.cuda.device_count()} CUDA devices; it takes two")
    plan = plan_of("sft", device="cuda:0", compute="bf16", **settings)

    def on(*devices: int) -> Run:
        launched = dataclasses.replace(plan.config.launch, devices=list(devices))
        config = dataclasses.replace(plan.config, launch=launched)
        return train_to_the_end(dataclasses.replace(plan, config=config), len(devices))

    first, second, alone = on(0, 1), on(1, 0), on(0)
    assert ledger.first_difference(first.ledger_path, second.ledger_path) is None
    losses = [[r.loss for r in ledger.read(run.ledger_path)] for run in (first, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
