"""One live trainer per run: refused while it lives, taken over however it died."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab import lock
from ftlab.errors import EnvironmentUnfit, FtlabError, RunBusy
from ftlab.lock import Lock
from ftlab.process import Identity
from ftlab.run import Run

Spawn = Callable[..., "subprocess.Popen[str]"]
HOLD = """
import sys, time
from pathlib import Path
from ftlab.lock import Lock
lock = Lock.acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""
FORK = """
import os, sys, time
from pathlib import Path
from ftlab.lock import Lock
lock = Lock.acquire(Path(sys.argv[1]))
if os.fork() == 0:
    time.sleep(60)
print("held", flush=True)
time.sleep(60)
"""


def held_by(spawn: Spawn, path: Path, code: str = HOLD) -> subprocess.Popen[str]:
    child = spawn("-c", code, path)
    assert child.stdout
    assert child.stdout.readline() == "held\n"
    return child


def test_a_second_trainer_is_refused_by_name(planned: Run, spawn: Spawn) -> None:
    child = held_by(spawn, planned.lock_path)
    with pytest.raises(RunBusy, match=f"process {child.pid} ") as caught:
        planned.lock()
    assert f"ftrun stop {planned.id}" in str(caught.value)
    assert caught.value.exit_code == 3
    holder = lock.holder(planned.lock_path)
    assert holder
    assert holder.alive()


def test_a_lock_of_a_killed_trainer_is_taken_over(planned: Run, spawn: Spawn) -> None:
    child = held_by(spawn, planned.lock_path)
    child.send_signal(signal.SIGKILL)
    child.wait()
    with planned.lock():
        holder = lock.holder(planned.lock_path)
        assert holder == Identity.mine()


def test_a_dying_trainer_is_waited_for(planned: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = dataclasses.replace(Identity.mine(), start_time=1)
    answers = [BlockingIOError(errno.EAGAIN, "busy")] * 3

    def dying(descriptor: int, operation: int) -> None:
        if answers:
            raise answers.pop()

    planned.lock_path.write_text(json.dumps(dead.to_dict()))
    monkeypatch.setattr(fcntl, "flock", dying)
    planned.lock().release()
    assert answers == []
    planned.lock_path.write_text(json.dumps(dead.to_dict()))
    answers += [BlockingIOError(errno.EAGAIN, "busy")] * 1000
    monkeypatch.setattr(lock, "_DYING", 0.1)
    with pytest.raises(RunBusy):
        planned.lock()


def test_a_forked_worker_does_not_keep_the_lock(planned: Run, spawn: Spawn) -> None:
    child = held_by(spawn, planned.lock_path, FORK)
    os.kill(child.pid, signal.SIGKILL)  # the parent only: its worker lives on
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    planned.lock().release()
    os.killpg(child.pid, signal.SIGKILL)


def test_release_frees_it_and_may_be_repeated(planned: Run) -> None:
    held = planned.lock()
    with pytest.raises(RunBusy):
        planned.lock()
    held.release()
    held.release()
    planned.lock().release()


def test_a_child_adopts_the_lock_of_its_launcher(planned: Run, spawn: Spawn) -> None:
    with planned.lock() as held:
        environment = {**os.environ, lock.HANDOVER: str(held.descriptor)}
        child = spawn(
            "-c", HOLD, planned.lock_path, pass_fds=(held.descriptor,), env=environment
        )  # fmt: skip
        assert child.stdout
        assert child.stdout.readline() == "held\n"
    with pytest.raises(RunBusy, match=str(child.pid)):
        planned.lock()


@pytest.mark.parametrize("value", ["", "nonsense", "987654", "0"])
def test_a_wrong_handover_is_ignored(
    planned: Run, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(lock.HANDOVER, value)
    planned.lock().release()
    assert lock.HANDOVER not in os.environ


def test_a_deleted_run_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(FtlabError, match="deleted or moved"):
        Lock.acquire(tmp_path / "gone" / "lock")
    assert lock.holder(tmp_path / "gone" / "lock") is None


def test_without_flock_the_written_identity_decides(
    planned: Run, monkeypatch: pytest.MonkeyPatch, spawn: Spawn
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    child = held_by(spawn, planned.lock_path)
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(RunBusy, match=str(child.pid)):
        planned.lock()
    child.kill()
    child.wait()
    planned.lock().release()
    planned.lock_path.write_text("garbage")
    planned.lock().release()


def test_another_fault_of_flock_is_not_hidden(
    planned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fault)
    with pytest.raises(FtlabError, match="Input/output error"):
        planned.lock()


@pytest.mark.parametrize("kernel", [True, False])
def test_a_full_disk_leaves_the_lock_without_a_name(
    planned: Run, monkeypatch: pytest.MonkeyPatch, kernel: bool
) -> None:
    """Throwing a run away must work where it is needed most."""
    planned.lock().release()

    def full(*arguments: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    if not kernel:

        def unsupported(*arguments: Any) -> None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(fcntl, "flock", unsupported)
        with pytest.raises(EnvironmentUnfit, match="no space left"):
            planned.lock()
        return
    with planned.lock():
        assert (planned.path / "lock").read_bytes() == b""
        with pytest.raises(RunBusy, match="another process"):
            planned.lock()
