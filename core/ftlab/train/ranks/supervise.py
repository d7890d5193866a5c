"""The head of a run that several processes train: it starts torchrun, and answers for the run.

torchrun starts the ranks and ends them all when one fails. The head does what it does not: it holds
the run's lock; it turns a signal into the leader's wish to stop and then waits as long as the save
takes (torchrun itself would kill after 30 seconds); it sees to it that nothing outlives it, however
it ends; and when the leader is killed, it says the last words. It loads no torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from ftlab.errors import FtlabError
from ftlab.events import EventWriter, Heartbeat
from ftlab.plan import Plan
from ftlab.process import die_with_parent
from ftlab.run import Run
from ftlab.train.attempt import say_last_words
from ftlab.train.ranks.room import VARIABLE, Room
from ftlab.train.signals import StopSignal

LOOPBACK = "127.0.0.1"


def supervise(run: Run, plan: Plan, stop: StopSignal, *, resume: bool) -> int:
    """Train `run` in as many processes as its plan says; the exit code. The caller holds the lock.

    Raises:
        EnvironmentUnfit: the run directory cannot be written.
    """
    run.exit_path.unlink(missing_ok=True)  # an earlier attempt's
    with tempfile.TemporaryDirectory(prefix="ftlab-ranks-") as folder:
        room = Room(Path(folder))
        child = subprocess.Popen(
            command(run, plan.world_size, folder, resume=resume),
            stdin=subprocess.DEVNULL,
            env={**environment(plan, dict(os.environ)), VARIABLE: folder},
            start_new_session=True,  # a signal for the group is the head's to handle
            preexec_fn=die_with_parent,
        )
        _wait(child, room, stop)
        return _end(run, room, plan.world_size)


def command(run: Run, size: int, folder: str, *, resume: bool) -> list[str]:
    """torchrun on this host alone, with nothing left of it in /tmp."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", LOOPBACK,
        "--nproc-per-node", str(size), "--max-restarts", "0", "--log-dir", folder,
        "-m", "ftlab.train.ranks.member", os.fspath(run.path), *(["--resume"] if resume else []),
    ]  # fmt: skip


def environment(plan: Plan, base: dict[str, str]) -> dict[str, str]:
    """The ranks' environment: they meet on the loopback and divide the CPU's threads."""
    threads = max(1, plan.facts.machine.threads // plan.world_size)
    chosen = {
        "OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    return {**(chosen if sys.platform == "linux" else {}), **base}


def _wait(child: subprocess.Popen[bytes], room: Room, stop: StopSignal) -> None:
    """Wait for torchrun; a wish to stop goes to the leader, once it is there to hear it."""
    told = False
    while True:
        try:
            child.wait(timeout=0.1)
            return
        except subprocess.TimeoutExpired:
            leader = room.process(0) if stop and not told else None
            told = told or (leader is not None and leader.signal(signal.SIGTERM))


def _end(run: Run, room: Room, size: int) -> int:
    """The exit code that the leader left, or the last words in its place."""
    said = run.exit()
    if said is not None:
        return int(said["code"])
    fault = room.fault(size)
    reason = "a process ended before it could say why; the end of log.txt tells more"
    code = FtlabError.exit_code
    if fault is not None:
        reason, code = f"rank {fault.rank}: {fault.reason}", fault.code
    end = {"state": "failed", "code": code, "reason": reason}
    with EventWriter(run.events_path) as events:
        say_last_words(run, events, Heartbeat(run), end)
    return code
