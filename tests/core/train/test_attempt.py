"""One attempt: however it ends, events, manifest, exit.json and status say the same."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ftlab import events
from ftlab.errors import EnvironmentUnfit, Interrupted
from ftlab.plan import Plan
from ftlab.process import Identity
from ftlab.run import Run
from ftlab.train import attempt
from ftlab.train.attempt import Member
from ftlab.train.ranks.alone import RankLost
from ftlab.train.ranks.room import Fault, Room
from ftlab.train.signals import StopSignal


class Here(Member):
    def join(self, plan: Plan) -> Any:
        import contextlib

        return contextlib.nullcontext(SimpleNamespace(leads=True))


@pytest.fixture
def run_of(plan_of: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """`run_of(error, fault)`: a run whose training ends so, beside a rank with that fault."""
    monkeypatch.setattr(attempt, "FAULT_SECONDS", 0.1)

    def go(error: Exception | None, fault: Fault | None = None) -> Run:
        def train(desk: Any, *, resume: bool) -> None:
            if error is not None:
                raise error

        build = ModuleType("ftlab.train.build")
        build.Desk, build.train = lambda *a: a, train  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "ftlab.train.build", build)
        run = Run.create(plan_of("sft"), tmp_path / "runs")
        room = Room(tmp_path / "room")
        room.path.mkdir()
        if fault is not None:
            room.fail(fault)
        head = Identity.of(1)
        with events.EventWriter(run.events_path) as writer:
            attempt.attempt(
                run, writer, StopSignal(), resume=False, member=Here(room, 0, 2), process=head
            )
        assert run.status().pid == 1
        return run

    return go


@pytest.mark.parametrize(
    ("error", "fault", "code", "state", "words"),
    [
        (None, None, 0, "done", ""),
        (Interrupted("saved"), None, 130, "stopped", "saved"),
        (Interrupted("SIGTERM"), Fault(1, 3, "no memory"), 3, "failed", "rank 1: no memory"),
        (RankLost("closed"), Fault(1, 3, "no memory"), 3, "failed", "rank 1: no memory"),
        (RankLost("closed"), None, 1, "failed", "closed"),
        (EnvironmentUnfit("mine"), Fault(1, 1, "later"), 3, "failed", "mine"),
        (ZeroDivisionError("x"), None, 1, "failed", "ZeroDivisionError: x"),
    ],
)
def test_the_last_words(
    run_of: Callable[..., Run], error: Exception | None, fault: Fault | None, code: int,
    state: str, words: str,
) -> None:  # fmt: skip
    run = run_of(error, fault)
    said = run.exit()
    assert said is not None
    assert (said["code"], said["state"], said["reason"]) == (code, state, words)
    assert run.liveness() == state
    last = events.read(run.events_path)[0][-1]
    assert (last["kind"], last["state"]) == ("finished", state)
