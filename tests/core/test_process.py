"""A process is named so that neither pid reuse, a reboot nor a container confuses it."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
from collections.abc import Callable

import pytest

from ftlab import process
from ftlab.process import Identity

Spawn = Callable[..., "subprocess.Popen[str]"]
SLEEP = "import time; time.sleep(60)"


def test_round_trip_and_own_identity() -> None:
    mine = Identity.mine()
    assert mine.pid == os.getpid()
    assert mine.start_time
    assert mine.alive()
    assert Identity.from_dict(mine.to_dict() | {"new": 1}) == mine


@pytest.mark.parametrize("value", [{}, {"pid": None}, {"pid": "7"}, {"pid": 0}])
def test_no_process_is_named(value: dict[str, object]) -> None:
    assert Identity.from_dict(value) is None


def test_another_process_with_the_same_pid_is_not_it() -> None:
    mine = Identity.mine()
    earlier = dataclasses.replace(mine, start_time=(mine.start_time or 0) - 1)
    assert earlier.alive() is False
    assert earlier.signal(signal.SIGTERM) is False


def test_reboot_container_and_other_host() -> None:
    mine = Identity.mine()
    assert dataclasses.replace(mine, boot_id="earlier").alive() is False
    assert dataclasses.replace(mine, boot_id="other", host="elsewhere").alive() is None
    assert dataclasses.replace(mine, pid_namespace="pid:[1]").alive() is None
    assert dataclasses.replace(mine, pid_namespace="pid:[1]").signal(signal.SIGTERM) is False


def test_a_zombie_is_dead(spawn: Spawn) -> None:
    child = spawn("-c", SLEEP)
    identity = Identity.of(child.pid)
    assert identity.alive()
    assert identity.signal(signal.SIGKILL, group=True)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, not reaped
    assert identity.alive() is False
    child.wait()
    assert identity.alive() is False
    assert identity.signal(signal.SIGTERM) is False


def test_signals_reach_exactly_the_process(spawn: Spawn) -> None:
    child = spawn("-c", SLEEP)
    assert Identity.of(child.pid).signal(signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM


def test_without_proc_less_is_known_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "start_time", lambda pid: None)
    monkeypatch.setattr(process.os.path, "isdir", lambda path: False)
    monkeypatch.delattr(os, "pidfd_open")
    mine = Identity.mine()
    assert mine.start_time is None
    assert mine.alive()
    assert mine.signal(0)
    assert dataclasses.replace(mine, pid=2**22 + 1).alive() is False
    assert process.monotonic() <= process.monotonic()
