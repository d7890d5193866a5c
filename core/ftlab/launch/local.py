"""Start and stop a trainer on this machine: detached, writing to files, never to a pipe.

The trainer is a session of its own with stdin from null and stdout and stderr in log.txt, so that
it survives the terminal, the ssh connection and the process that started it, and can never block on
output that nobody reads. Standard library only.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

from ftlab import atomic, control
from ftlab.errors import ConfigError, EnvironmentUnfit
from ftlab.lock import HANDOVER, Lock
from ftlab.process import Identity
from ftlab.run import LIVE, Run

_children: dict[int, _Detached] = {}  # kept, so that their exit codes can be had


def start(run: Run, *, resume: bool = False) -> int:
    """Start the trainer of a planned run, or go on with one that ended; its pid.

    Raises:
        RunBusy: a live trainer owns the run.
        ConfigError: the run is done, or was started before and `resume` is not given.
        FtlabError: the run directory is gone or cannot be written.
    """
    with run.lock() as lock:
        check_startable(run, resume)
        clear_traces(run, resume)
        return _spawn(run, resume, lock)


def stop(run: Run, grace: float = 60.0, *, kill: bool = False, ask: bool = True) -> str:
    """Stop the trainer, each means only after the gentler one had `grace` seconds; how it ended.

    First a stop request (the trainer finishes its step and saves), then SIGTERM (likewise, but it
    is heard outside the loop too), then, only with `kill`, SIGKILL to the trainer and its children.

    Args:
        ask: begin with the request; False begins with SIGTERM.
    Returns:
        `run.liveness()` at the end; "running" or "stalled" when it did not stop.
    """
    if ask and run.liveness() in LIVE:
        control.request(run, "stop")
        wait(run, grace)
    signals = [(signal.SIGTERM, False)] + ([(signal.SIGKILL, True)] if kill else [])
    for number, group in signals:
        process = run.process()
        if run.liveness() not in LIVE or process is None:
            break
        process.signal(number, group=group)
        wait(run, grace)
    return run.liveness()


def wait(run: Run, seconds: float) -> str:
    """Wait until the run is not live, at most `seconds`; its liveness then."""
    deadline = time.monotonic() + seconds
    while (state := run.liveness()) in LIVE and time.monotonic() < deadline:
        time.sleep(0.05)
    return state


def exit_code(pid: int) -> int | None:
    """How a trainer started by this very process ended; None while it runs, or if not ours."""
    child = _children.get(pid)
    return None if child is None else child.poll()


def trainer_command(run: Run, resume: bool) -> list[str]:
    """The command line of the trainer process."""
    command = [sys.executable, "-m", "ftlab.train", os.fspath(run.path)]
    return [*command, "--resume"] if resume else command


def environment(devices: list[int], base: dict[str, str]) -> dict[str, str]:
    """The trainer's environment: ours, its own modules only, and no GPU beyond the planned ones.

    Args:
        devices: GPU indices as the launcher counts them, that is, inside its own
            CUDA_VISIBLE_DEVICES; [] hides every GPU.
    """
    outer = [name for name in base.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    names = [outer[i] if i < len(outer) else str(i) for i in devices]
    ours = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ",".join(names)}
    # The first optimizer step imports torch's compiler, which would start a pool of idle processes.
    quiet = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    return {**quiet, **base, **ours}


def check_startable(run: Run, resume: bool) -> None:
    """Refuse a run that is done, or that was started before when it is not to be resumed."""
    state = run.liveness()
    if state == "done":
        raise ConfigError(f"run {run.id} is done; `ftrun show {run.id}` says what it made")
    if not resume and state != "planned":
        raise ConfigError(f"run {run.id} was started before ({state}); use `ftrun resume {run.id}`")


def clear_traces(run: Run, resume: bool) -> None:
    """Remove what an earlier attempt left that would be taken for this one's."""
    control.Inbox(run).discard()
    run.launch_path.unlink(missing_ok=True)
    run.exit_path.unlink(missing_ok=True)
    if resume:
        fresh = dataclasses.replace(
            run.status(), state="planned", pid=None, updated=time.time(), message="resuming"
        )
        run.write_status(fresh)


def _spawn(run: Run, resume: bool, lock: Lock) -> int:
    devices = run.plan().config.launch.devices
    visible = environment(devices if isinstance(devices, list) else [], dict(os.environ))
    command = trainer_command(run, resume)
    with atomic.clear_errors(run.log_path):
        log = run.log_path.open("ab")
    with log:
        headline(log, command)
        try:
            child = _Detached(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock.descriptor,),
                env={**visible, HANDOVER: str(lock.descriptor)},
            )
        except OSError as error:
            raise EnvironmentUnfit(f"cannot start {command[0]}: {error.strerror}") from error
    _children[child.pid] = child
    identity = Identity.of(child.pid)
    lock.name_holder(identity)
    _record(run, identity, command)
    return child.pid


class _Detached(subprocess.Popen[bytes]):
    """A child that is meant to outlive us; to leave it running is no leak to warn about."""

    def __del__(self) -> None:
        pass


def headline(log: BinaryIO, command: list[str]) -> None:
    """Say in the log when an attempt starts and how."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S %z")
    log.write(f"--- {moment} {shlex.join(command)}\n".encode())


def _record(run: Run, identity: Identity, command: list[str]) -> None:
    entry = {
        "version": 1,
        **identity.to_dict(),
        "argv": command,
        "cwd": os.fspath(Path.cwd()),
        "started": time.time(),
    }
    atomic.write_json(run.launch_path, entry)
