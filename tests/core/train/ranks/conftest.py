"""Ranks as forked children of the test: no second import of torch, and its patches are theirs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ftlab import atomic
from ftlab.plan import Decision, Plan
from ftlab.run import Run
from ftlab.train.ranks.room import VARIABLE, Room

PATIENCE = 90.0
Work = Callable[[int], object]


def start(work: Work, size: int) -> list[int]:
    """Fork `size` ranks that do `work(rank)`; their pids. What it gives is the exit code."""
    if torch.cuda.is_initialized():
        pytest.skip("a GPU does not survive a fork")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    for rank in range(size):
        pid = os.fork()
        if pid == 0:
            _be(rank, size, port, work)
        pids.append(pid)
    return pids


def _be(rank: int, size: int, port: int, work: Work) -> None:
    code = 70
    try:
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo",
        )  # fmt: skip
        torch.set_num_threads(1)
        code = int(work(rank) or 0)  # type: ignore[call-overload]
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def finish(pids: list[int], *, together: bool = True) -> list[int]:
    """The exit codes; as torchrun does, the end of one that failed ends the others."""
    codes: dict[int, int] = {}
    until = time.monotonic() + PATIENCE
    while len(codes) < len(pids):
        for pid in set(pids) - set(codes):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
        if together and any(codes.values()):
            together = False
            for pid in set(pids) - set(codes):
                os.kill(pid, signal.SIGTERM)
        if time.monotonic() > until:
            for pid in set(pids) - set(codes):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return [codes[pid] for pid in pids]


@pytest.fixture
def do_ranks(tmp_path: Path) -> Callable[..., list[object]]:
    """`do_ranks(work, size)`: what `work(rank)` gives in each, as JSON values."""

    def go(work: Work, size: int = 2) -> list[object]:
        def keep(rank: int) -> int:
            atomic.write_json(tmp_path / f"gave-{rank}.json", {"gave": work(rank)})
            return 0

        codes = finish(start(keep, size))
        assert codes == [0] * size
        return [atomic.read_json(tmp_path / f"gave-{rank}.json")["gave"] for rank in range(size)]

    return go


class Ranks:
    """Ranks of one attempt at a run, under a head that is this test."""

    def __init__(self, run: Run, size: int, folder: Path, *, resume: bool) -> None:
        from ftlab.train.ranks import member

        self.run, self.room = run, Room(folder)
        run.exit_path.unlink(missing_ok=True)
        os.environ[VARIABLE] = str(folder)
        arguments = [str(run.path), *(["--resume"] if resume else [])]
        self.pids = start(lambda rank: member.main(arguments), size)

    def wait_for(self, text: str) -> None:
        """Wait for words in the events."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with contextlib.suppress(FileNotFoundError):
                if text in self.run.events_path.read_text():
                    return
            time.sleep(0.002)
        raise AssertionError(f"{text} was never said")

    def end(self) -> list[int]:
        """Exit codes of all."""
        return finish(self.pids)


@pytest.fixture
def attempt_ranks(tmp_path: Path) -> Iterator[Callable[..., Ranks]]:
    """`attempt_ranks(run_or_plan, size=2, resume=False)`: start it; `.end()` waits."""
    count, held = 0, set()
    with contextlib.ExitStack() as stack:

        def go(plan: Plan | Run, size: int = 2, *, resume: bool = False) -> Ranks:
            nonlocal count
            count += 1
            folder = tmp_path / f"room-{count}"
            folder.mkdir()
            run = plan
            if isinstance(plan, Plan):
                run = Run.create(shared(plan, size), tmp_path / "runs")
            if run.path not in held:  # this test stays the head of every attempt
                held.add(run.path)
                stack.enter_context(run.lock())
            return Ranks(run, size, folder, resume=resume)

        yield go
    os.environ.pop(VARIABLE, None)


def shared(plan: Plan, size: int) -> Plan:
    """The plan for so many processes."""
    decisions = {**plan.decisions, "world_size": Decision(size, "test")}
    return dataclasses.replace(plan, decisions=decisions)
