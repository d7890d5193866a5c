"""Requests and signals: only to a trainer that lives, each in words."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ftlab.control import Inbox
from ftlab.process import Identity
from ftlab.run import Run
from ftlab_tui.monitor import asking
from ftlab_tui.reading.live import LiveRun


def read(run: Run) -> LiveRun:
    live = LiveRun(run)
    live.look()
    while live.poll():
        pass
    return live


@pytest.fixture
def child(make_run: Callable[..., Run]) -> Iterator[tuple[Run, subprocess.Popen[bytes]]]:
    """A run whose trainer is a process that waits, in a group of its own."""
    run = make_run("r", 30, live=True)
    code = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
    process = subprocess.Popen(code, start_new_session=True)
    mine = Identity.of(process.pid).to_dict()
    run.write_status(dataclasses.replace(run.status(), **mine))
    yield run, process
    process.kill()
    process.wait()


def test_a_request_reaches_the_trainer(make_run: Callable[..., Run]) -> None:
    run = make_run("r", live=True)
    answer = asking.ask(run, "eval")
    assert answer.ok
    assert "asked r to evaluate" in answer.text
    [taken] = Inbox(run).poll()
    assert (taken.number, taken.name) == (answer.number, "eval")


def test_nobody_is_asked_where_nobody_lives(make_run: Callable[..., Run]) -> None:
    run = make_run("r", state="done")
    answer = asking.ask(run, "save")
    assert (answer.ok, answer.number) == (False, 0)
    assert "r is done" in answer.text
    assert Inbox(run).poll() == []
    assert "not running" in asking.end(run).text


@pytest.mark.parametrize(("kill", "number"), [(False, signal.SIGTERM), (True, signal.SIGKILL)])
def test_a_signal_ends_the_process_of_the_run(
    child: tuple[Run, subprocess.Popen[bytes]], kill: bool, number: int
) -> None:
    run, process = child
    answer = asking.end(run, kill=kill)
    assert answer.ok, answer.text
    assert str(process.pid) in answer.text
    assert process.wait(30) == -number


def test_a_signal_that_may_not_be_sent_is_told(
    child: tuple[Run, subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **named: Any) -> bool:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Identity, "signal", refuse)
    answer = asking.end(child[0])
    assert not answer.ok
    assert "cannot send SIGTERM" in answer.text
    monkeypatch.setattr(Identity, "signal", lambda *arguments, **named: False)
    assert "cannot be reached from here" in asking.end(child[0]).text


def test_questions_name_the_run_and_what_is_lost(make_run: Callable[..., Run]) -> None:
    live = read(make_run("r", 50, live=True))
    question, detail = asking.stop_question(live)
    assert question == "Stop run r at step 50?"
    assert "the last one is of step 40" in detail
    question, detail = asking.end_question(live, kill=True)
    assert "SIGKILL" in question
    assert "10 steps since the checkpoint of step 40 are lost" in detail
    assert "SIGTERM" in asking.end_question(live, kill=False)[0]


def test_what_has_no_answer_yet_is_waited_for(make_run: Any) -> None:
    run = make_run("r", 30, live=True)
    live = read(run)
    asked = {1: "save", 2: "eval"}
    assert asking.pending(asked, live) == ["save a checkpoint: waiting", "evaluate: waiting"]
    make_run.append(run, {"v": 1, "t": 1.7e9 + 31, "kind": "answered", "step": 30, "number": 1,
                          "name": "save", "ok": True})  # fmt: skip
    while live.poll():
        pass
    assert asking.pending(asked, live) == ["evaluate: waiting"]
